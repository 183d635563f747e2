"""Fit an error detector on a tiny model, or on your own: `python examples/truth-probes.py [MODEL FOLDER]`."""

import sys

from gnomon.core.models import ModelHandle, load_model, load_tokenizer, new_llama, train_bpe
from gnomon.core.rng import Rng
from gnomon.methods import truth_probes as tp

questions = [
    tp.Question(f"{a}+{b}", str((a + b) % 2), str((a + b + 1) % 2), id=f"{a}+{b}", task="choice")
    for a in range(9)
    for b in range(9)
]
if len(sys.argv) > 1:
    handle = ModelHandle(load_model(sys.argv[1]), load_tokenizer(sys.argv[1]))
else:  # an untrained Llama over characters: its answers are noise, and the probe shows it
    tokenizer = train_bpe(["0"], 259)
    handle = ModelHandle(new_llama(tokenizer, 32, 2, 2, 64, Rng(1).child("model")).eval(), tokenizer)
samples = tp.collect(handle, None, questions, tp.Answering(samples=8, max_new_tokens=24), rng=Rng(0))
answers = [answer for answer in tp.extract(tp.label(samples), tp.Extraction("known")) if answer.is_usable]
states = tp.represent(handle, None, answers, tp.Capture(positions=("exact_last",))).at(1)
probe = tp.ErrorProbe.fit(states, [answer.z for answer in answers], layer=1)
for answer, p_right in list(zip(answers, probe.predict_proba(states), strict=True))[:8]:
    print(f"{answer.question} = {answer.exact_answer}  right: {answer.z}  P(right) {p_right:.2f}")
