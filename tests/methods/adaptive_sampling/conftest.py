"""A small policy that can add numbers now and then, saved as a user's checkpoint would be."""

import json

import pytest
import torch

from gnomon.core.models import new_llama, whole_words
from gnomon.core.rng import Rng
from gnomon.core.train import Batches, Example, TrainConfig, causal_loss, fit

WORDS = [*map(str, range(20)), "+", "=", "User:", "Assistant:", "again", "sofar", "Yes", "No", "so"]


class Sink:
    """What `fit` needs of a run."""

    def __init__(self, folder, rng):
        self.folder, self.rng, self.is_main = folder, rng, True

    def log(self, **numbers):
        pass

    def rewind(self, **where):
        pass

    def progress(self, total, label):
        from contextlib import nullcontext

        class Bar:
            def advance(self, n=1, **shown):
                pass

        return nullcontext(Bar())


@pytest.fixture(scope="session")
def sink(tmp_path_factory):
    return lambda seed=0: Sink(tmp_path_factory.mktemp("fit"), Rng(seed))


@pytest.fixture(scope="session")
def policy_folder(tmp_path_factory, sink):
    """`a + b =` is continued with `so` once in a while, then the sum or one beside it, then the end."""
    tokenizer = whole_words(WORDS)
    draw = Rng(3).numpy()
    examples = []
    for _ in range(600):
        a, b = (int(x) for x in draw.integers(0, 8, 2))
        total = a + b + int(draw.choice([0, 0, 1, -1]))
        text = ("so " if draw.random() < 0.5 else "") + str(max(0, total))
        prompt = tokenizer(f"{a} + {b} =")["input_ids"]
        answer = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
        examples.append(Example([*prompt, *answer], [-100] * len(prompt) + answer))
    model = new_llama(tokenizer, 32, 2, 4, 48, Rng(0))
    batches = Batches(examples, 64, pad_id=tokenizer.pad_token_id, generator=Rng(1))
    cfg = TrainConfig(lr=5e-3, epochs=12, batch_size=64, checkpoint_every=0, keep_checkpoints=0)
    fit(model, batches, causal_loss, cfg, run=sink())
    folder = tmp_path_factory.mktemp("policy")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def policy(policy_folder):
    from gnomon.core.models import load_model, load_tokenizer

    return load_model(policy_folder, device="cpu"), load_tokenizer(policy_folder)


@pytest.fixture(scope="session")
def questions(tmp_path_factory):
    """40 questions; a reader of files gets the numbers as texts."""
    path = tmp_path_factory.mktemp("questions") / "q.jsonl"
    rows = [
        {"id": f"{a}-{b}", "prompt": f"{a} + {b} =", "reference": str(a + b)}
        for a in range(5)
        for b in range(8)
    ]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


@pytest.fixture
def evaluator(policy):
    """`evaluator(kind)`: the policy with a carrier, untrained."""
    from gnomon.methods.adaptive_sampling.evaluator.carriers import new_carrier
    from gnomon.methods.adaptive_sampling.evaluator.evaluator import SelfEvaluator
    from gnomon.methods.adaptive_sampling.evaluator.schedule import Restart

    def make(kind="token"):
        model, tokenizer = policy
        carrier = new_carrier(kind, model, tokenizer, instructions=("again", "sofar"))
        with torch.no_grad():  # the two replies differ from answer to answer
            weights = model.get_input_embeddings().weight
            weights[[carrier.yes, carrier.no]] += torch.randn(2, weights.shape[1], generator=Rng(5).torch())
        return SelfEvaluator(model, tokenizer, carrier, Restart("constant", 1.0))

    return make
