"""Which of two chunks belongs to a third, by a language model's certainty; give a model to ask a real one."""

import sys

from gnomon.core.models import ModelHandle, new_llama, train_bpe
from gnomon.core.rng import Rng
from gnomon.methods.uncertainty_rag import LocalReader, Span, SpanUncertainty

ANCHOR = "The mill was sold to a baker from the next town in 1912."
CHUNKS = ["A baker bought the old mill by the river.", "The comet returns every seventy years."]

if len(sys.argv) > 1:
    handle = ModelHandle.load(sys.argv[1])
else:
    tokenizer = train_bpe([ANCHOR, *CHUNKS], vocab_size=300)
    handle = ModelHandle(new_llama(tokenizer, 64, 2, 4, 256, Rng(0)).eval(), tokenizer)
scorer = SpanUncertainty(LocalReader(handle), Span(window=8))
pairs = [(chunk, ANCHOR) for chunk in CHUNKS]  # the candidate first, the anchor is what gets predicted
print("threshold, frozen:", round(scorer.calibrate(pairs).sigma, 3))
scores = scorer.score(pairs)
for chunk, uncertainty, gain in zip(CHUNKS, scores.U, scores.gain, strict=True):
    print(f"U {uncertainty:.3f}  gain {gain:+.4f}  {chunk}")
