"""A file of fluent texts, written part by part: a job that is taken up again writes the parts that are missing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from gnomon.core import records
from gnomon.core.log import Advances
from gnomon.core.rng import Rng
from gnomon.errors import BadInput
from gnomon.methods.elm.guided import draft, write_fluent
from gnomon.methods.elm.passages import Fluent
from gnomon.methods.elm.personas import Personas


def make_fluent(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    personas: Personas,
    topics: Sequence[str],
    *,
    count: int,
    generator: Rng,
    folder: Path,
    gamma: float = 3.0,
    chars: tuple[int, int] = (50, 300),
    tokens: tuple[int, int] = (100, 300),
    batch_size: int = 16,
    bar: AbstractContextManager[Advances] | None = None,
) -> Path:
    """`count` fluent texts in `folder/fluent.jsonl`, from one forget text after the other and then from the first again.

    Text i draws from a stream named by i alone. Parts of `batch_size` texts lie in `folder/parts` until all are there.

    Raises:
        BadInput: there is no forget text.
    """
    if not texts:
        raise BadInput("There is no forget text to begin a fluent one with.")
    parts, whole = folder / "parts", folder / "fluent.jsonl"
    if whole.exists():
        return whole
    with bar or _silent() as shown:
        for first in range(0, count, batch_size):
            path = parts / f"{first:08d}.jsonl"
            numbers = range(first, min(count, first + batch_size))
            if not path.exists():
                drafts = [
                    draft(texts[i % len(texts)], personas, topics, generator.child(i), chars=chars, tokens=tokens)
                    for i in numbers
                ]  # fmt: skip
                records.write(path, write_fluent(model, tokenizer, drafts, gamma))
            shown.advance(len(numbers))
    found = (row for path in sorted(parts.glob("*.jsonl")) for row in records.read(path, Fluent))
    records.write(whole, list(found)[:count])
    for path in parts.glob("*.jsonl"):
        path.unlink()
    parts.rmdir()
    return whole


def _silent() -> Any:
    from gnomon.core.log import progress

    return progress(None, "fluency", silent=True)
