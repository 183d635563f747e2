"""Samples on demand from a model that was taught nothing: each gets its c, and a prompt stops at the first that is high enough."""

from gnomon.core.models import GenConfig, new_llama, whole_words
from gnomon.core.rng import Rng
from gnomon.methods.adaptive_sampling import AdaptiveSampler, Restart, Schedule, SelfEvaluator, new_carrier

tokenizer = whole_words([*map(str, range(20)), "+", "="])
model = new_llama(tokenizer, 32, 2, 4, 32, Rng(0)).eval()
carrier = new_carrier("token", model, tokenizer)  # one token asks, two reply
evaluator = SelfEvaluator(model, tokenizer, carrier, Restart("constant", 1.0))

sampler = AdaptiveSampler(
    evaluator, GenConfig(max_new_tokens=4), Schedule("constant", 1.0), gamma=0.52, n_max=8
)
for result in sampler.sample(["1 + 2 =", "7 + 6 ="], Rng(1)):
    print(
        f"{result.k_used} samples, stopped because {result.trace['why']}; c {result.c:.3f}: {result.text.strip()}"
    )
    for sample in result.all_samples:
        print(f"    c {sample.c:.3f}  {sample.text.strip()}")
