"""The exact Markov chain of a small model: where it ends, how fast it gets there, and what greedy decoding repeats."""

import sys

from gnomon.core.models import ModelHandle, new_llama
from gnomon.core.rng import Rng
from gnomon.methods.markov import MarkovLM

if len(sys.argv) > 1:  # a model folder, restricted to eight of its tokens
    lm = MarkovLM(ModelHandle.load(sys.argv[1]), vocab=range(10, 18), window=3)
else:
    model = new_llama(3, hidden=32, layers=2, heads=2, max_length=8, generator=Rng(0), is_tied=False)
    lm = MarkovLM(model.eval(), window=4, names="abc")

pi = lm.stationary()
print(f"{len(lm.states)} states, T x K = {len(lm.vocab)} x {lm.space.window}")
for number in pi.argsort()[::-1][:3]:
    print(f"  {lm.label(number)!r} has {pi[number]:.3f} of the stationary mass")
for analysis in lm.analyse((0.5, 1.0, 2.0)):
    row = analysis.row
    print(
        f"temperature {row['temperature']}: |lambda_2| {row['|lambda_2|']:.3f}, mixing time {row['t_mix(1/4)']}"
    )
print("greedy decoding ends in", [lm.label(state) for state in lm.greedy_cycle().members])
