"""What self-evaluation costs: looking ahead against a second pass, rounds against all at once, pruning, questions in one row.

    python benchmarks/adaptive_sampling.py      writes docs/results/bench-adaptive-sampling.json; --only prints a part

One thread. A Llama with random weights. Times are CPU seconds, medians of rounds in which the ways take turns; ratios are what
to look at. TRL's best-of-N is measured where TRL is installed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from common.record import main
from common.timing import take_turns

from gnomon.core.models import GenConfig, generate, new_llama, train_bpe
from gnomon.core.models.sampling.decoding import read_prompts
from gnomon.core.rng import Rng
from gnomon.methods.adaptive_sampling import (
    AdaptiveSampler,
    Answer,
    BestOfN,
    Pruning,
    PruningSampler,
    Restart,
    Schedule,
    SelfEvaluator,
    new_carrier,
)
from gnomon.methods.adaptive_sampling.building.training import AnswerBatches, SelfEvalLoss

CONSTANT = Schedule("constant", 1.0)


def evaluator(kind: Any = "token") -> SelfEvaluator:
    """A model that asks."""
    tokenizer = train_bpe(["The mill was sold to a baker.\n"], 300)
    model = new_llama(tokenizer, 128, 4, 4, 512, Rng(0)).eval()
    model.generation_config.eos_token_id = None
    return SelfEvaluator(model, tokenizer, new_carrier(kind, model, tokenizer), Restart("constant", 1.0))


def prompts(count: int, length: int) -> list[list[int]]:
    """Token ids that are no special ones."""
    return torch.randint(5, 250, (count, length), generator=torch.Generator().manual_seed(0)).tolist()


def peek() -> dict[str, Any]:
    """One question behind 32 rows of 200 tokens: on the cache, and by reading the rows again."""
    asked, rows = evaluator(), prompts(32, 200)
    with torch.no_grad():
        decoding = read_prompts(asked.model, rows, range(32), 2).start(torch.arange(32), 8)
        suffix = torch.tensor([list(asked.carrier.finished)] * 32)
        ways = {"peek": lambda: decoding.peek(suffix), "second pass": lambda: asked.score(rows, [[]] * 32)}
        times = take_turns(ways, 5)
    return {"seconds": times, "share": times["peek"] / times["second pass"]}


def rounds() -> dict[str, Any]:
    """24 prompts, 8 samples each: in rounds of 1, 1, 2, 4; all at once (what joining could reach at best); a prompt at a time."""
    asked, rows, gen = evaluator(), prompts(24, 24), GenConfig(max_new_tokens=24, batch_size=192)
    adaptive = AdaptiveSampler(asked, gen, CONSTANT, gamma=1.0, n_max=8)
    best = BestOfN(asked, gen, CONSTANT, n=8)

    def plain() -> None:
        for row in rows:
            for k in range(8):
                generate(asked.model, asked.tokenizer, [row], replace(gen, n=1), generator=Rng(k))

    times = take_turns(
        {
            "rounds": lambda: adaptive.sample(rows, Rng(0)),
            "at once": lambda: best.sample(rows, Rng(0)),
            "one at a time": plain,
        },
        3,
    )
    return {
        "seconds": times,
        "rounds over at once": times["rounds"] / times["at once"],
        "one at a time over rounds": times["one at a time"] / times["rounds"],
    }


def pruning() -> dict[str, Any]:
    """16 samples of 64 tokens, 4 of which stay after 16, against all of them."""
    asked, rows, gen = evaluator(), prompts(8, 24), GenConfig(max_new_tokens=64, batch_size=128)
    whole = BestOfN(asked, gen, CONSTANT, n=16)
    pruned = PruningSampler(asked, gen, CONSTANT, n=16, pruning=Pruning((16,), (4,)))
    times = take_turns(
        {"all": lambda: whole.sample(rows, Rng(0)), "pruned": lambda: pruned.sample(rows, Rng(0))}, 3
    )
    return {"seconds": times, "share": times["pruned"] / times["all"]}


def training() -> dict[str, Any]:
    """A step on 16 answers with 8 cuts each: one row an answer, a row a cut, and reserved logits."""
    times = {}
    steps = {}
    for name, kind, is_packed in (
        ("packed", "token", True),
        ("separate rows", "token", False),
        ("reserved", "reserved", False),
    ):
        asked = evaluator(kind)
        answers = [
            Answer(tuple(p), tuple(a), tuple(range(6, 49, 6)), 0.5)
            for p, a in zip(prompts(16, 40), prompts(16, 48), strict=True)
        ]
        batches = AnswerBatches(answers, asked.carrier, 16, pad_id=2, generator=Rng(0), is_packed=is_packed)
        loss, (micro,) = SelfEvalLoss(asked.carrier, "lm"), batches.at(0).micro
        steps[name] = lambda loss=loss, asked=asked, micro=micro: loss(asked.model, micro).backward()
    times = take_turns(steps, 3)
    return {
        "seconds": times,
        **{
            f"separate rows over {name}": times["separate rows"] / times[name]
            for name in ("packed", "reserved")
        },
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    raise SystemExit(
        main(
            "adaptive-sampling",
            __doc__,
            {"peek": peek, "rounds": rounds, "pruning": pruning, "training": training},
        )
    )
