"""A vision-language model that reads a query and a section and says how well the one answers the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gnomon.core.models.adapters import add_token
from gnomon.core.models.handle import ModelHandle
from gnomon.core.models.images import SeenText
from gnomon.core.models.load import LoadConfig, model_at
from gnomon.core.models.sampling.prefix import last_states
from gnomon.core.models.sampling.states import States, inputs_of
from gnomon.core.models.sampling.text import padding_id
from gnomon.core.retrieval.hits import Hit, ranked
from gnomon.core.rng import Rng, seeded
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.interleaved_retrieval.documents.rows import Document, Query, section_id
from gnomon.methods.interleaved_retrieval.encoding.encoder import (
    adapted,
    batches_of,
    save_trained,
    tokens_for,
)
from gnomon.methods.interleaved_retrieval.encoding.settings import Retrieving, read_settings
from gnomon.methods.interleaved_retrieval.encoding.units import Units

HEAD = "score.safetensors"


class Scored(nn.Module):
    """Hidden state at the end token -> one logit.

    Args:
        states: gives the state.
        dim: its length.
    """

    def __init__(self, states: States, dim: int):
        super().__init__()
        self.states, self.score = states, nn.Linear(dim, 1)

    def forward(self, inputs: dict[str, Tensor], mask: Tensor) -> Tensor:
        """Logits [B]."""
        logits: Tensor = self.score(self.states(inputs, mask)).squeeze(-1)
        return logits


class SectionReranker:
    """Scores of pairs of query and section.

    Args:
        handle: a vision-language or causal model.
        how: how sections are written.
        batch_tokens: tokens of a batch, padding among them.
    Source: section 3 of the paper.
    """

    def __init__(
        self, handle: ModelHandle, how: Retrieving | None = None, *, batch_tokens: int | None = None
    ):
        how = how or Retrieving()
        self.handle, self.how, self.batch_tokens = handle, how, tokens_for(handle, batch_tokens)
        self.units = Units(handle, how)
        dim = int(handle.model.config.get_text_config().hidden_size)
        self.module = Scored(States(handle.model, how.pick), dim).to(handle.model.device)
        self.module.eval()

    @classmethod
    def new(
        cls, handle: ModelHandle, how: Retrieving | None = None, *, rng: Rng, **options: Any
    ) -> SectionReranker:
        """A reranker that is to be trained; its head is drawn from `rng`."""
        how = how or Retrieving()
        for end in how.ends.values():
            if end:
                add_token(handle.model, handle.tokenizer, end)
        with seeded(rng):
            return cls(handle, how, **options)

    @classmethod
    def from_pretrained(
        cls, ref: str | Path, load: LoadConfig | None = None, **options: Any
    ) -> SectionReranker:
        """The reranker in a folder, or of a run of `train --part reranker`.

        Raises:
            BadInput: the folder holds no reranker.
        """
        folder = Path(model_at(ref))
        if not (folder / HEAD).is_file():
            raise BadInput(f'"{ref}" is no reranker: it has no {HEAD}. Train one with --part reranker.')
        handle = ModelHandle.load(str(folder), load)
        reranker = cls(handle, read_settings(folder), **options)
        reranker.module.score.load_state_dict(load_file(folder / HEAD))
        return reranker

    def with_adapters(self, rank: int) -> SectionReranker:
        """The reranker with adapters of its linear maps, the rows of its end tokens and its head to train, and nothing else."""
        handle = adapted(self.handle, self.units, rank)
        reranker = SectionReranker(handle, self.how, batch_tokens=self.batch_tokens)
        reranker.module.score = self.module.score
        return reranker

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write weights, processor, `retriever_config.json` and the head; adapters are merged into the weights.

        Raises:
            BadConfig: the folder is not empty.
        """
        path = save_trained(self.handle, self.how, Path(folder))
        state = self.module.score.state_dict()
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, path / HEAD)
        return path

    @torch.inference_mode()
    def logits(self, seen: Sequence[SeenText]) -> list[float]:
        """The logit of each pair; what the pairs of a batch without images begin with, such as one query, is read once."""
        values = [0.0] * len(seen)
        for numbers in batches_of(seen, self.batch_tokens):
            logits = self._batch_logits([seen[i] for i in numbers])
            for i, value in zip(numbers, logits.tolist(), strict=True):
                values[i] = value
        return values

    def _batch_logits(self, seen: Sequence[SeenText]) -> Tensor:
        """The logits [B] of pairs that are read side by side."""
        handle, states = self.handle, None
        if self.how.pick == "last" and not any(text.layouts for text in seen):
            states = last_states(handle.model, [text.ids for text in seen], padding_id(handle.tokenizer))
        if states is None:
            batch = handle.gather(seen, side="right")
            states = self.module.states(*inputs_of(batch, handle.kind, handle.model))
        logits: Tensor = self.module.score(states).squeeze(-1)
        return logits

    def score(self, query: Query, sections: Sequence[tuple[Document, int]]) -> list[float]:
        """The logit of each section; minus infinity for one with nothing to show."""
        seen = [self.units.of_pair(query, document, number) for document, number in sections]
        values = iter(self.logits([text for text in seen if text is not None]))
        return [float("-inf") if text is None else next(values) for text in seen]

    def rerank(
        self,
        query: Query,
        documents: Sequence[Document],
        *,
        k: int | None = None,
        scores: Mapping[str, float] | None = None,
        alpha: float = 0.0,
        only: Mapping[str, Sequence[int]] | None = None,
    ) -> list[Hit]:
        """All sections of some documents, the best first.

        Args:
            query: what is searched for.
            documents: whose sections are scored.
            k: as many at most.
            scores: document -> its own score, for `alpha`.
            alpha: weight of the document's score beside that of the section, sigmoid(logit); 0: the section's alone.
            only: document -> numbers of the sections that are scored; None: all.

        Raises:
            BadConfig: alpha is not within 0 .. 1, or needs scores and there are none.
        """
        if not 0 <= alpha <= 1 or (alpha and scores is None):
            raise BadConfig(f"alpha must be in 0..1, with scores of documents above 0; got {alpha}.")
        sections = [
            (document, i)
            for document in documents
            for i in (range(len(document.sections)) if only is None else only.get(document.id, ()))
        ]
        pairs = []
        for (document, i), logit in zip(sections, self.score(query, sections), strict=True):
            if logit == float("-inf"):
                continue
            value = logit
            if alpha:
                own = float(torch.tensor(logit).sigmoid())
                value = alpha * (scores or {}).get(document.id, 0.0) + (1 - alpha) * own
            pairs.append((section_id(document.id, i), value))
        return ranked(pairs, k)
