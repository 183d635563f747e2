"""Samples on demand: a small model learns when its answers are worth another try, and a prompt stops at the first that is not."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from gnomon.core.rng import Rng
from gnomon.core.run import Run
from gnomon.methods.adaptive_sampling import AdaptiveSampler
from gnomon.methods.adaptive_sampling.mini.study import CONSTANT, evaluator_of, policy
from gnomon.methods.adaptive_sampling.mini.world import SCALES, World

with TemporaryDirectory() as folder:
    run = Run(Path(folder) / "run", method="adaptive-sampling", verb="example", quiet=True)
    part = run.within("example")
    scale = replace(SCALES["smoke"], lm_steps=80, prompts=80, steps=60)
    writer = policy(
        scale, World.draw("method", part.rng), part
    )  # it has read demonstrations, and its samples are graded
    evaluator = evaluator_of(writer, "token", "soft", scale, part.within("asks", part.rng))
    run.close()

sampler = AdaptiveSampler(evaluator, writer.drawing.gen, CONSTANT, gamma=0.97, n_max=6)
for result in sampler.sample([task.prompt for task in writer.tasks[:2]], Rng(1)):
    print(
        f"{result.k_used} samples, stopped because {result.trace['why']}; c {result.c:.3f}: {result.text.strip()}"
    )
    for sample in result.all_samples:
        print(f"    c {sample.c:.3f}  {sample.text.strip()}")
