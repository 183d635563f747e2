"""Audit a judge for biases with calm: a simulated one, or yours (openai:MODEL, hf:FOLDER) as the first argument."""

import sys

from gnomon.core.rng import Rng
from gnomon.methods.calm import analyze, audit, chosen_probes, load_cues, open_judge, write
from gnomon.methods.calm.planted import world_items

judge = open_judge(sys.argv[1] if len(sys.argv) > 1 else "sim:judge?authority=2&position=1")
probes, cues = chosen_probes(["authority", "bandwagon", "position"]), load_cues()
items = write(world_items(120, Rng(0), sets=("alignment",)), probes, cues, Rng(0)).items
(profile,) = analyze(audit(judge, items, probes, cues=cues, rng=Rng(0)))
print(f"{profile.judge}, {len(items)} items")
for bias, cell in profile.headline().items():
    value, low, high = cell.shift
    print(f"{bias:12} shift {value:+.2f} [{low:+.2f}, {high:+.2f}]  {profile.words()[bias]}")
