"""A file of fluent texts, written part by part: a job that is taken up again writes the parts that are missing.

Fluent texts that know nothing: the frozen model goes on from a forget text while a novice pulls it and an expert pushes it away.

Three streams are written in lock-step, each with a cache of its own: the prompt's, and those of the two personas, which see their
own words and what has been written, and not the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gnomon.core import records
from gnomon.core.log import Advances, progress
from gnomon.core.models.sampling.config import GenConfig
from gnomon.core.models.sampling.decoding import Decoding, read_prompts
from gnomon.core.models.sampling.sampler import Row, Sampler
from gnomon.core.models.sampling.text import StopFinder, completion_text, padding_id
from gnomon.core.rng import Rng
from gnomon.errors import BadInput
from gnomon.methods.elm.texts.passages import Fluent
from gnomon.methods.elm.texts.personas import Personas, prefix_ids, start_ids, text_ids

# Fluent texts that know nothing: the frozen model goes on from a forget text while a novice pulls it and an expert pushes it away.


def guided_scores(
    frozen: Float[Tensor, "B V"], expert: Float[Tensor, "B V"], novice: Float[Tensor, "B V"], gamma: float
) -> Float[Tensor, "B V"]:
    """Scores log p + gamma (log p_novice - log p_expert) from logits, up to a constant per row."""
    log_p, log_e, log_n = (logits.float().log_softmax(-1) for logits in (frozen, expert, novice))
    return log_p + gamma * (log_n - log_e)


class Guided:
    """Three rows of one text each, which read the same tokens; see `gnomon.core.models.sampling.decoding.Decoding`.

    Args:
        frozen: behind the prompts.
        expert: behind the expert's words.
        novice: behind the novice's.
        gamma: strength.
    """

    def __init__(self, frozen: Decoding, expert: Decoding, novice: Decoding, gamma: float):
        self.streams, self.gamma = (frozen, expert, novice), gamma
        self.logits: Tensor = self._scores()
        """The guided scores of the next token, [B, V]."""

    def _scores(self) -> Float[Tensor, "B V"]:
        frozen, expert, novice = (stream.logits for stream in self.streams)
        return guided_scores(frozen, expert, novice, self.gamma)

    def start(self, sources: Int[Tensor, " K"], room: int) -> Decoding:
        """New rows that go on from the given ones."""
        frozen, expert, novice = (stream.start(sources, room) for stream in self.streams)
        return Guided(frozen, expert, novice, self.gamma)

    def step(self, tokens: Int[Tensor, " B"], going: Bool[Tensor, " B"]) -> None:
        """Read one more token of each row, in all three streams."""
        for stream in self.streams:
            stream.step(tokens, going)
        self.logits = self._scores()

    def keep(self, rows: Int[Tensor, " K"]) -> None:
        """Let all other rows go."""
        for stream in self.streams:
            stream.keep(rows)

    def peek(
        self, suffix: Int[Tensor, "B k"], going: Bool[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B V"]:
        """The guided scores behind k more tokens of each row, which are then forgotten."""
        frozen, expert, novice = (stream.peek(suffix, going) for stream in self.streams)
        return guided_scores(frozen, expert, novice, self.gamma)


@dataclass(frozen=True)
class Draft:
    """A continuation that is to be written."""

    prompt: str
    """The beginning of a forget text and a sentence that changes the topic."""
    expert: str
    """The expert's words."""
    novice: str
    """The novice's."""
    length: int
    """Tokens at most."""
    stream: Rng
    """Its own random numbers."""


def draft(
    text: str, personas: Personas, topics: Sequence[str], stream: Rng,
    *, chars: tuple[int, int] = (50, 300), tokens: tuple[int, int] = (100, 300),
) -> Draft:  # fmt: skip
    """What is drawn before anything is written: where the text is cut, the sentence behind it, the personas and the length.

    Args:
        text: a forget text.
        personas: of which one of each is drawn.
        topics: sentences that change the topic; none: the text alone.
        stream: names the draws.
        chars: least and most characters of the text.
        tokens: least and most new tokens.
    """
    draw = stream.child("draft").python()
    prompt = text[: draw.randint(*chars)].rstrip()
    prompt = f"{prompt} {draw.choice(list(topics))}" if topics else prompt
    expert, novice = draw.choice(personas.expert), draw.choice(personas.novice)
    return Draft(prompt, expert, novice, draw.randint(*tokens), stream)


@torch.no_grad()
def write_fluent(
    model: Any, tokenizer: Any, drafts: Sequence[Draft], gamma: float = 3.0, *, temperature: float = 1.0
) -> list[Fluent]:
    """The drafts written to their end, side by side. Each draws from its own stream: how many share a batch changes nothing.

    Args:
        model: the frozen causal model.
        tokenizer: its tokenizer.
        drafts: what to write; as many at once as are given.
        gamma: strength of the guidance.
        temperature: divides the guided scores.

    Source: ELM (arXiv 2410.02760), sampling for the fluency loss; the released code's persona streams do not see the prompt.
    """
    start, pad_id = start_ids(tokenizer), padding_id(tokenizer)
    prompts = [[*start, *text_ids(tokenizer, drafted.prompt)] for drafted in drafts]
    sides = [
        [prefix_ids(tokenizer, getattr(drafted, side)) for drafted in drafts] for side in ("expert", "novice")
    ]
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    longest = [max(map(len, three)) for three in zip(prompts, *sides, strict=True)]
    limits = [
        d.length if positions is None else max(1, min(d.length, positions - n))
        for d, n in zip(drafts, longest, strict=True)
    ]
    rows = [
        Row((i, 0), prompt, limit, drafted.stream.child("sample"))
        for i, (drafted, prompt, limit) in enumerate(zip(drafts, prompts, limits, strict=True))
    ]
    was_training = model.training
    model.eval()
    places = range(len(drafts))
    frozen, expert, novice = (read_prompts(model, some, places, pad_id) for some in (prompts, *sides))
    stops = StopFinder(tokenizer, (), model.config.get_text_config().vocab_size)
    ends = {i for i in (tokenizer.eos_token_id,) if i is not None}
    gen = GenConfig(temperature=temperature)
    Sampler(Guided(frozen, expert, novice, gamma), list(places), rows, gen, stops, ends, None).run()
    model.train(was_training)
    return [
        Fluent(drafted.prompt, completion_text(tokenizer, row.prompt, row.token_ids))
        for drafted, row in zip(drafts, rows, strict=True)
    ]


# A file of fluent texts, written part by part: a job that is taken up again writes the parts that are missing.


@dataclass(frozen=True)
class Guidance:
    """What fluent texts are drawn from and how strongly they are guided."""

    personas: Personas
    """Prefixes of experts and novices, of which one of each is drawn per text."""
    topics: Sequence[str] = ()
    """Sentences that change the topic; none: the forget text alone."""
    gamma: float = 3.0
    """Strength of the guidance."""
    chars: tuple[int, int] = (50, 300)
    """Least and most characters taken of a forget text."""
    tokens: tuple[int, int] = (100, 300)
    """Least and most new tokens."""
    batch_size: int = 16
    """Texts written side by side."""


def make_fluent(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    guidance: Guidance,
    *,
    count: int,
    generator: Rng,
    folder: Path,
    bar: AbstractContextManager[Advances] | None = None,
) -> Path:
    """`count` fluent texts in `folder/fluent.jsonl`, from one forget text after the other and then from the first again.

    Text i draws from a stream named by i alone. Parts of `batch_size` texts lie in `folder/parts` until all are there.

    Args:
        model: the frozen causal model.
        tokenizer: its tokenizer.
        texts: forget texts.
        guidance: personas, topics and lengths.
        count: texts to write.
        generator: names the draws.
        folder: where they are written.
        bar: a progress display; None shows nothing.

    Raises:
        BadInput: there is no forget text.
    """
    if not texts:
        raise BadInput("There is no forget text to begin a fluent one with.")
    parts, whole = folder / "parts", folder / "fluent.jsonl"
    if whole.exists():
        return whole
    with bar or _silent() as shown:
        for first in range(0, count, guidance.batch_size):
            path = parts / f"{first:08d}.jsonl"
            numbers = range(first, min(count, first + guidance.batch_size))
            if not path.exists():
                drafts = [
                    draft(
                        texts[i % len(texts)],
                        guidance.personas,
                        guidance.topics,
                        generator.child(i),
                        chars=guidance.chars,
                        tokens=guidance.tokens,
                    )
                    for i in numbers
                ]
                records.write(path, write_fluent(model, tokenizer, drafts, guidance.gamma))
            shown.advance(len(numbers))
    fluent = (row for path in sorted(parts.glob("*.jsonl")) for row in records.read(path, Fluent))
    records.write(whole, list(fluent)[:count])
    for path in parts.glob("*.jsonl"):
        path.unlink()
    parts.rmdir()
    return whole


def _silent() -> Any:

    return progress(None, "fluency", silent=True)
