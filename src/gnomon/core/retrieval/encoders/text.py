"""Texts to vectors of unit length, whoever computes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from gnomon.core.retrieval.encoders.folders import ROLES, About
from gnomon.errors import BadConfig, BadInput, ModelMismatch, nearest

if TYPE_CHECKING:
    from gnomon.core.llm.config import LLMConfig
    from gnomon.core.models.load.config import LoadConfig

Floats = NDArray[np.float32]

TooLong = Literal["windows", "cut", "error"]
"""Texts longer than the encoder reads. windows: the mean of the vectors of their windows; cut: their end is left out; error."""
_TOO_LONG = ("windows", "cut", "error")


class Embeds(Protocol):
    """What computes vectors: a model of this process, or a server."""

    prefixes: Mapping[str, str]
    max_tokens: int | None

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    def identity(self, prefixes: Mapping[str, str]) -> str:
        """A name that two share only where they give equal vectors."""
        ...

    def embed(self, texts: Sequence[str], prefix: str, too_long: str) -> tuple[Floats, list[int]]:
        """Vectors [N, D], and the numbers of texts that were too long."""
        ...


class TextEncoder:
    """An encoder of texts. Order, batches and padding change a vector by rounding alone, so each text is as if alone.

    Args:
        embeds: computes the vectors.
        prefixes: role (`query`, `passage`) -> what stands in front of its texts; None: as the encoder says.
        too_long: what becomes of texts longer than `max_tokens`.

    Raises:
        BadConfig: there is no such role or way.
    """

    def __init__(
        self,
        embeds: Embeds,
        *,
        prefixes: Mapping[str, str] | None = None,
        too_long: TooLong = "windows",
    ):
        if too_long not in _TOO_LONG:
            raise BadConfig(f'too_long must be {", ".join(_TOO_LONG)}; got "{too_long}".')
        self.embeds = embeds
        self.prefixes = {role: embeds.prefixes.get(role, "") for role in ROLES} | dict(prefixes or {})
        if unknown := set(self.prefixes) - set(ROLES):
            raise BadConfig(f'No role is called "{min(unknown)}"; there are {", ".join(ROLES)}.')
        self.too_long = too_long
        self.n_texts = self.n_too_long = 0
        self._source: tuple[Any, ...] | None = None

    @classmethod
    def load(
        cls,
        ref: str | Path,
        load: LoadConfig | None = None,
        *,
        pooling: str | None = None,
        prefixes: Mapping[str, str] | None = None,
        max_tokens: int | None = None,
        too_long: TooLong = "windows",
        batch_tokens: int | None = None,
        asks: LLMConfig | None = None,
    ) -> TextEncoder:
        """The encoder that `ref` names.

        Args:
            ref: a folder of sentence-transformers, or of a plain model, whose tokens are averaged; a hub id; `embedded:minilm`; or
                `http://host/v1#name`, a server with an endpoint for embeddings.
            load: how a model of this process is loaded.
            pooling: see `POOLINGS`; None: as the folder says.
            prefixes: role -> what stands in front of its texts; None: as the folder says.
            max_tokens: tokens that are read at most, fewer than the model could; None: as the folder says.
            too_long: what becomes of longer texts.
            batch_tokens: tokens of a batch, padding among them; None: 4,096.
            asks: how a server is asked, and what that may cost.

        Raises:
            BadInput: nothing can be loaded from there.
            BadConfig: no such pooling, role or way; or the address is misspelt.
            ModelMismatch: the folder has modules that are not known here, or the model brings its own code.
        """
        if str(ref).startswith(("http://", "https://")):
            from gnomon.core.retrieval.encoders.endpoint import EndpointEncoder

            if pooling is not None or max_tokens is not None or load is not None:
                raise BadConfig("A server pools and loads as it does: give no pooling, max_tokens or load.")
            encoder = cls(EndpointEncoder(str(ref), asks), prefixes=prefixes, too_long=too_long)
        else:
            from gnomon.core.models.load.config import LoadConfig
            from gnomon.core.retrieval.encoders.local import BATCH_TOKENS, LocalEncoder, load_local

            model, tokenizer, about = load_local(ref, load or LoadConfig())
            if pooling is not None:
                about = replace(about, readout=replace(about.readout, pooling=(pooling,)))
            if max_tokens is not None:
                about = replace(about, max_tokens=max_tokens)
            local = LocalEncoder(model, tokenizer, about, batch_tokens=batch_tokens or BATCH_TOKENS)
            encoder = cls(local, prefixes=prefixes, too_long=too_long)
        encoder._source = (ref, load, pooling, prefixes, max_tokens, too_long, batch_tokens, asks)
        return encoder

    @classmethod
    def of(cls, model: Any, tokenizer: Any, about: About | None = None, **options: Any) -> TextEncoder:
        """The encoder of a model that is open, such as one that was just trained.

        Args:
            model: of transformers.
            tokenizer: its tokenizer.
            about: pooling, prefixes, limit; None: the mean over all tokens.
            **options: as of `TextEncoder`.
        """
        from gnomon.core.retrieval.encoders.local import LocalEncoder

        return cls(LocalEncoder(model, tokenizer, about or About(Path())), **options)

    @property
    def dim(self) -> int:
        """Length of a vector. A server is asked for one to know."""
        return self.embeds.dim

    @property
    def max_tokens(self) -> int | None:
        """Tokens that are read at most, special ones among them; None: no limit, or one that a server does not say."""
        return self.embeds.max_tokens

    @cached_property
    def fingerprint(self) -> str:
        """A name that two encoders share only if they give equal vectors: of weights, tokenizer, pooling, prefixes and limit.

        A server's is its model's name, since it shows nothing else of itself.
        """
        return self.embeds.identity(self.prefixes)

    def encode(self, texts: Sequence[str], role: str = "passage") -> Floats:
        """The vectors of texts, [N, D] float32 of unit length; in their order.

        Args:
            texts: none of them empty.
            role: `query` or `passage`, which decides the prefix.

        Raises:
            BadInput: a text is empty, or too long where that is an error; the message has its number.
            BadConfig: there is no such role.
            ModelMismatch: the model gives a vector that is not finite, or of length 0.
            LLMFailure: a server gave no vectors.
            BudgetSpent: it may be asked no more.
        """
        if isinstance(texts, str):
            raise BadInput("Texts are a list, and this is a single text. Write encode([text]).")
        if role not in self.prefixes:
            raise BadConfig(f'No role is called "{role}". {nearest(role, self.prefixes)}')
        for number, text in enumerate(texts):
            if not text.strip():
                raise BadInput(f"Text {number} is empty. Leave empty texts out.")
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        vectors, long = self.embeds.embed(texts, self.prefixes[role], self.too_long)
        lengths = np.linalg.norm(vectors, axis=1)
        if wrong := np.flatnonzero(~np.isfinite(lengths) | (lengths == 0)).tolist():
            raise ModelMismatch(f"The vector of text {wrong[0]} is not finite, or it is 0 throughout.")
        self.n_texts += len(texts)
        self.n_too_long += len(long)
        return (vectors / lengths[:, None]).astype(np.float32)

    def save(self, folder: str | Path) -> Path:
        """Write a new folder that sentence-transformers opens to the same vectors, and `load` to the same fingerprint.

        Raises:
            BadConfig: the folder is not empty, or the model is on a server.
        """
        save = getattr(self.embeds, "save", None)
        if save is None:
            raise BadConfig("A model on a server cannot be saved from here.")
        path: Path = save(Path(folder), self.prefixes)
        return path

    def close(self) -> None:
        """Close the connections to a server; a model of this process has none. Also done at the end of a `with` block."""
        close = getattr(self.embeds, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> TextEncoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> Any:
        # What was loaded by name is loaded again in another process, and not sent there.
        return super().__reduce__() if self._source is None else (_again, self._source)


def _again(*source: Any) -> TextEncoder:
    ref, load, pooling, prefixes, max_tokens, too_long, batch_tokens, asks = source
    return TextEncoder.load(
        ref,
        load,
        pooling=pooling,
        prefixes=prefixes,
        max_tokens=max_tokens,
        too_long=too_long,
        batch_tokens=batch_tokens,
        asks=asks,
    )
