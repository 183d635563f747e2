"""Encoding in batches by tokens against batches of eight in file order, updates against rebuilding, pictures and queries read once.

    python benchmarks/interleaved_retrieval.py      writes docs/results/bench-interleaved-retrieval.json

One small LLaVA with random weights, on one thread. Times are CPU seconds, the median of rounds in which the ways take turns;
ratios are what to look at. Memory is the largest sum of live tensors, as torch's profiler counts them.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from common.record import main
from common.timing import take_turns

from gnomon.core.models.handle import ModelHandle
from gnomon.core.models.images.features import ImageFeatures
from gnomon.core.models.sampling.states import States, inputs_of
from gnomon.core.models.tiny import LlavaSizes, tiny_llava, whole_words
from gnomon.core.rng import Rng
from gnomon.methods.interleaved_retrieval import (
    Block,
    Document,
    DocumentIndex,
    InterleavedEncoder,
    Query,
    Section,
    SectionReranker,
    section_rows,
)
from gnomon.methods.interleaved_retrieval.mini.world import FILLERS, picture

DOCUMENTS, SECTIONS = 12, 4


def encoder(vocabulary: int = 0, tower: int = 64, side: int = 48) -> InterleavedEncoder:
    """A LLaVA of a few million weights."""
    tokenizer = whole_words([*FILLERS, *(f"rare{i}" for i in range(vocabulary))])
    sizes = LlavaSizes(
        image_size=side,
        patch=8,
        vision_hidden=tower,
        hidden=192,
        layers=4,
        heads=4,
        intermediate=512,
        max_length=1024,
    )
    return InterleavedEncoder.new(ModelHandle(*tiny_llava(tokenizer, sizes, generator=Rng(0))))


def documents(n: int = DOCUMENTS, sections: int = SECTIONS) -> list[Document]:
    """Sections of very different lengths, every third with a picture: as real documents are."""
    draw, noise = Rng(1).python(), Rng(2).numpy()
    rows = []
    for i in range(n):
        parts = []
        for _ in range(sections):
            words = draw.choices(FILLERS, k=int(draw.paretovariate(0.9) * 12) % 600 + 6)
            blocks = [Block("text", text=" ".join(words))]
            if draw.random() < 1 / 3:
                blocks.append(Block("image", image=picture("red", noise)))
            parts.append(Section("", tuple(blocks)))
        rows.append(Document(f"d{i:03d}", "", tuple(parts)))
    return rows


def batching() -> dict[str, Any]:
    """Sections a second: batches of at most so many tokens by length, and of eight in file order."""
    ours, rows = encoder(), documents()
    seen = [unit.seen for row in rows for unit in ours.units.of_document(row)]
    handle = ours.handle

    def in_file_order() -> None:
        with torch.inference_mode():
            for first in range(0, len(seen), 8):
                group = seen[first : first + 8]
                # Texts with images and without cannot be in one batch; both halves are read in file order.
                for shows in (False, True):
                    part = [text for text in group if bool(text.layouts) == shows]
                    if part:
                        ours.module(*inputs_of(handle.gather(part, side="right"), handle.kind, handle.model))

    seconds = take_turns(
        {
            "batches by tokens": lambda: ours._states(seen, exact=False),
            "each by itself": lambda: ours._states(seen, exact=True),
            "eight in file order": in_file_order,
        },
        rounds=5,
    )
    return {
        "sections": len(seen),
        "sections a second": {name: len(seen) / value for name, value in seconds.items()},
        "by tokens over eight in file order": seconds["eight in file order"] / seconds["batches by tokens"],
        "each by itself over eight in file order": seconds["eight in file order"] / seconds["each by itself"],
    }


def updating() -> dict[str, Any]:
    """One changed section of fifty: an update, and encoding and writing all of them."""
    ours = encoder()
    (whole,) = documents(1, 50)
    changed = replace(whole, sections=(replace(whole.sections[1]), *whole.sections[1:]))
    with TemporaryDirectory() as folder:
        at = Path(folder)

        def rebuild() -> DocumentIndex:
            rows = list(section_rows(ours, whole, ours.how.form))
            return DocumentIndex.build(at / "all", rows, encoder=ours, form=ours.how.form, anew=True)

        index = rebuild()
        seconds = take_turns(
            {"all": rebuild, "the changed one": lambda: index.update_section(ours, changed, 0)}, rounds=5
        )
    return {"seconds": seconds, "all over the changed one": seconds["all"] / seconds["the changed one"]}


def memory() -> dict[str, Any]:
    """The largest sum of live tensors of a pass over 16 sections of 300 tokens: states alone, and with logits of 49,152 words."""
    ours = encoder(49_152)
    row = Document("d", "", (Section("", (Block("text", text=" ".join(FILLERS * 10)),)),))
    (unit,) = ours.units.of_section(row, 0)
    batch = ours.handle.gather([unit.seen] * 16)
    inputs, mask = inputs_of(batch, ours.handle.kind, ours.handle.model)

    def peak(work: Any) -> float:
        live = most = 0
        with torch.inference_mode(), torch.profiler.profile(profile_memory=True) as profile:
            work()
        for event in profile.profiler.kineto_results.events():  # type: ignore[union-attr]
            if event.name() == "[memory]":
                live += event.nbytes()
                most = max(most, live)
        return most / 2**20

    states = States(ours.handle.model)
    taken = {"states": peak(lambda: states(inputs, mask))}
    taken["logits"] = peak(lambda: ours.handle.model(**inputs, use_cache=False))
    return {"MiB": taken, "states over logits": taken["states"] / taken["logits"]}


def pictures() -> dict[str, Any]:
    """48 sections with one and the same picture, such as a letterhead: it goes through the tower once, or with every section."""
    ours = encoder(
        tower=192, side=96
    )  # as wide as the language model: CLIP-L beside half a billion weights is no smaller
    logo = picture("red", Rng(3).numpy())
    rows = [
        Document(
            f"d{i}",
            "",
            (Section("", (Block("text", text=" ".join(FILLERS[:12])), Block("image", image=logo))),),
        )
        for i in range(48)
    ]
    seen = [unit.seen for row in rows for unit in ours.units.of_document(row)]
    states = States(ours.handle.model)

    def read(features: ImageFeatures | None) -> None:
        with torch.inference_mode():
            for start in range(0, len(seen), 8):
                batch = ours.handle.gather(seen[start : start + 8], side="right")
                inputs, mask = inputs_of(batch, ours.handle.kind, ours.handle.model)
                states(inputs if features is None else features.read(inputs), mask)

    kept = ImageFeatures(ours.handle.model)
    read(kept)  # the first batch is checked
    seconds = take_turns({"every time": lambda: read(None), "kept": lambda: read(kept)}, rounds=5)
    ratio = seconds["every time"] / seconds["kept"]
    return {"seconds": seconds, "image tokens a section": 144, "every time over kept": ratio}


def queries() -> dict[str, Any]:
    """A reranker on 40 sections of 40 words, queries of 10 and of 40: read once a batch, or with every section."""
    reranker = SectionReranker.new(encoder().handle, rng=Rng(0))
    words = [w for w in FILLERS for _ in range(8)]
    rows = [
        Document(f"d{i}", "", (Section("", (Block("text", text=" ".join(words[i : i + 40])),)),))
        for i in range(40)
    ]
    numbers: dict[str, Any] = {}
    for n in (10, 40):
        query = Query("q", " ".join((FILLERS * 8)[:n]))
        seen = [reranker.units.of_pair(query, row, 0) for row in rows]
        pairs = [pair for pair in seen if pair is not None]

        def whole(pairs: list[Any] = pairs) -> list[float]:
            logits: list[float] = []
            with torch.inference_mode():
                for start in range(0, len(pairs), 8):
                    batch = reranker.handle.gather(pairs[start : start + 8], side="right")
                    inputs = inputs_of(batch, reranker.handle.kind, reranker.handle.model)
                    logits += reranker.module(*inputs).tolist()
            return logits

        both = (whole(), reranker.logits(pairs))
        seconds = take_turns(
            {"with each": whole, "once": lambda pairs=pairs: reranker.logits(pairs)}, rounds=5
        )
        numbers[f"{n} words"] = {
            "seconds": seconds,
            "largest difference": max(abs(a - b) for a, b in zip(*both, strict=True)),
            "with each over once": seconds["with each"] / seconds["once"],
        }
    return numbers


if __name__ == "__main__":
    sections = {
        "batching": batching, "updating": updating, "memory": memory, "pictures": pictures, "queries": queries,
    }  # fmt: skip
    sys.exit(main("interleaved-retrieval", __doc__, sections))
