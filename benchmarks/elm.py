"""How fast and how lean erasing is, against the direct way to write it: three passes and whole distributions in float64.

    python benchmarks/elm.py [--only SECTION ...] [--out docs/results/bench-elm.json]

One Llama with random weights and adapters in two of its eight blocks, on one thread. Times are CPU seconds of the process, the
median of rounds in which the ways take turns; ratios are what to look at. Peak memory is that of a fresh process per way, over
what it held with the model loaded and warm (Linux only).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from common.memory import in_fresh_processes, peak_over_now
from common.record import main
from common.timing import take_turns
from torch import Tensor

from gnomon.core.models import new_llama, train_bpe
from gnomon.core.rng import Rng
from gnomon.core.train.losses import token_cross_entropy
from gnomon.methods.elm import Erasure, Texts, read_personas, write_fluent
from gnomon.methods.elm.erasure import ErasureLoss, ScratchRun, attach, draft, frozen, guided_scores
from gnomon.methods.elm.texts import Feed, prefix_ids, read_by, text_ids, text_logits, topics

Numbers = dict[str, Any]

SIZE = {"hidden": 256, "layers": 8, "heads": 4, "max_length": 512}
VOCABULARY = 8_000
DESIGN = Erasure(eta=500.0, dropout=0.0, norms_every=0)
TEXTS, TOKENS = 8, 96
PERSONAS = read_personas("potions, spells")


@cache
def make_model() -> tuple[Any, Any]:
    """The model and its tokenizer, a function of the sizes above; no token ends a text."""
    tokenizer = train_bpe(
        ["def add(a, b):\n    return a + b\n", *PERSONAS.expert, *PERSONAS.novice, *topics()], 600
    )
    model = new_llama(tokenizer, **SIZE, generator=Rng(0))  # type: ignore[arg-type]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.resize_token_embeddings(VOCABULARY, mean_resizing=False)
    tokenizer.eos_token = None
    model.config.eos_token_id = model.generation_config.eos_token_id = None
    return model.eval(), tokenizer


@cache
def make_eraser() -> tuple[Any, Feed]:
    """The model with adapters, and batches of texts of different lengths."""
    import copy

    model, tokenizer = make_model()
    draw = Rng(1).python()

    def some() -> list[list[int]]:
        return [[draw.randrange(3, 600) for _ in range(TOKENS - 6 * i)] for i in range(TEXTS)]

    experts, novices = PERSONAS.encode(tokenizer)
    texts = Texts([some()], some(), [(row, 20) for row in some()], (), experts, novices)
    feed = Feed(texts, TEXTS, generator=Rng(0), fluency_batch=TEXTS)
    return attach(copy.deepcopy(model), DESIGN, Rng(2)).train(), feed


def ours() -> float:
    """The room's step: one frozen call for all passes, top-k targets, one graph pass for all kinds of rows."""
    model, feed = make_eraser()
    loss = ErasureLoss(model, DESIGN, ScratchRun())
    value = loss(model, feed.at(0).micro[0])
    value.backward()
    return float(value.detach())


def direct() -> float:
    """The formula as it stands: each text and pass alone, every distribution whole and in float64, kept for the loss."""
    model, feed = make_eraser()
    forget, retain, fluent = feed.rows(0)
    drawn = feed._personas(0)
    targets: list[Tensor] = []
    parts: list[Tensor] = []
    n = {i: sum(len(row.ids) for row in rows) for i, rows in enumerate((forget, retain))}
    for row, (e, v) in zip(forget, drawn, strict=True):
        with frozen(model):
            z = [
                model(torch.tensor([[*prefix, *row.ids]])).logits[0, -len(row.ids) :]
                for prefix in ((), feed.texts.experts[e], feed.texts.novices[v])
            ]
            bare, expert, novice = ((one.double() / DESIGN.temperature).log_softmax(-1) for one in z)
            eta = torch.linspace(1, DESIGN.eta, len(row.ids), dtype=torch.float64)[:, None]
            edit = bare + eta * (novice - expert)
            least = edit.topk(DESIGN.top_k).values[:, -1:]
            targets.append(edit.masked_fill(edit < least, -torch.inf).softmax(-1))
    for row, target in zip(forget, targets, strict=True):
        mine = model(torch.tensor([list(row.ids)])).logits[0].double().log_softmax(-1)
        parts.append(-(target * mine).sum() / n[0])
    for row in retain:
        ids = torch.tensor([list(row.ids)])
        with frozen(model):
            old = model(ids).logits[0].double().log_softmax(-1)
        mine = model(ids).logits[0].double().log_softmax(-1)
        parts.append((old.exp() * (old - mine)).sum() / n[1])
    count = sum(len(row.ids) - row.first for row in fluent)
    for row in fluent:
        ids = torch.tensor([list(row.ids)])
        labels = ids.clone()
        labels[:, : row.first] = -100
        parts.append(token_cross_entropy(model(ids).logits, labels).double() / count)
    total = torch.stack(parts).sum()
    total.backward()
    return float(total.detach())


def plain() -> float:
    """An ordinary fine-tuning step of the same adapters on the same texts."""
    model, feed = make_eraser()
    batch = feed.at(0).micro[0]
    read, width = read_by(batch)
    logits = text_logits(model, read, width)
    labels = batch["ids"].masked_fill(~batch["mask"], -100)
    value = token_cross_entropy(logits, labels) / batch["mask"].sum()
    value.backward()
    return float(value.detach())


WAYS: dict[str, Callable[[], float]] = {"text by text, whole distributions": direct, "gnomon": ours}


def stepping() -> Numbers:
    """One step of all three losses, backward included."""
    values = {name: way() for name, way in WAYS.items()}
    seconds = take_turns(WAYS, rounds=3)
    peaks = in_fresh_processes(peak_mib, WAYS)
    return _compared(seconds, values) | {
        "peak_mib_over_warm_process": peaks,
        "times_leaner": peaks["text by text, whole distributions"] / peaks["gnomon"],
    }


def _compared(seconds: dict[str, float], values: dict[str, float]) -> Numbers:
    first, second = seconds
    return {
        "loss": values,
        "cpu_seconds": seconds,
        "times_faster": seconds[first] / seconds[second],
        "relative_difference": abs(values[first] - values[second]) / abs(values[first]),
    }


def peak_mib(name: str) -> float:
    """Most memory that one step takes over the warm process; runs in a process of its own."""
    torch.set_num_threads(1)
    model, _ = make_eraser()
    model(torch.tensor([[3, 4, 5]])).logits.sum().backward()
    return peak_over_now(WAYS[name])


def against_plain() -> Numbers:
    """What erasing costs beside plain fine-tuning of the same adapters: its step reads each forget text four times, not once."""
    ways: dict[str, Callable[[], object]] = {"plain fine-tuning": plain, "gnomon": ours}
    seconds = take_turns(ways, rounds=3)
    return {"cpu_seconds": seconds, "times_plain": seconds["gnomon"] / seconds["plain fine-tuning"]}


def targeting() -> Numbers:
    """The erase target alone: as indices and values a few rows at a time, against whole tables, for longer texts."""
    from gnomon.methods.elm.erasure import reweight

    draw = torch.Generator().manual_seed(0)
    passes = [torch.randn(1024, VOCABULARY, generator=draw) for _ in range(3)]
    eta = torch.full((1024,), 500.0)

    def whole() -> Tensor:
        bare, expert, novice = ((z.double() / 1.2).log_softmax(-1) for z in passes)
        edit = bare + eta[:, None] * (novice - expert)
        least = edit.topk(50).values[:, -1:]
        return edit.masked_fill(edit < least, -torch.inf).softmax(-1)

    ways: dict[str, Callable[[], object]] = {"whole": whole, "gnomon": lambda: reweight(*passes, eta)}
    seconds = take_turns(ways, rounds=3)
    held = {"whole": 1024 * VOCABULARY * 8 / 2**20, "gnomon": 1024 * 50 * 16 / 2**20}
    return {"cpu_seconds": seconds, "times_faster": seconds["whole"] / seconds["gnomon"], "target_mib": held}


def fluency() -> Numbers:
    """Eight fluent texts of 24 tokens: three streams in lock-step and side by side, one by one, and without any cache."""
    model, tokenizer = make_model()
    drafts = [
        draft(
            "def add(a, b): return a + b " * 4,
            PERSONAS,
            topics(),
            Rng(0).child(i),
            chars=(50, 90),
            tokens=(24, 24),
        )
        for i in range(8)
    ]

    def together() -> object:
        return write_fluent(model, tokenizer, drafts)

    def one_by_one() -> object:
        return [write_fluent(model, tokenizer, [one]) for one in drafts]

    ways = {
        "one by one, no cache": partial(_uncached, model, tokenizer, drafts),
        "one by one": one_by_one,
        "gnomon": together,
    }
    seconds = take_turns(ways, rounds=2)
    return {
        "same_texts": together() == [one for part in one_by_one() for one in part],  # type: ignore[attr-defined]
        "cpu_seconds": seconds,
        "times_faster": {name: seconds[name] / seconds["gnomon"] for name in seconds},
    }


@torch.no_grad()
def _uncached(model: Any, tokenizer: Any, drafts: list[Any]) -> None:
    for one in drafts:
        heads = [text_ids(tokenizer, one.prompt)]
        heads += [prefix_ids(tokenizer, getattr(one, side)) for side in ("expert", "novice")]
        draw, written = one.stream.torch(), list[int]()
        for _ in range(one.length):
            last = [
                model(torch.tensor([[*head, *written]]), logits_to_keep=1).logits[:, -1] for head in heads
            ]
            written.append(int(torch.multinomial(guided_scores(*last, 3.0).softmax(-1), 1, generator=draw)))


SECTIONS: dict[str, Callable[[], Numbers]] = {
    "step": stepping,
    "plain": against_plain,
    "target": targeting,
    "fluency": fluency,
}


if __name__ == "__main__":
    MODEL = {"class": "LlamaForCausalLM", **SIZE, "vocabulary": VOCABULARY, "weights": "random"}
    sys.exit(main("elm", __doc__, SECTIONS, model=MODEL))
