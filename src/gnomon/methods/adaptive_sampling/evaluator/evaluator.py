"""Self-evaluation: c, the probability that starting over would not give something better, read from two logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from gnomon.core.models.sampling.decoding import read_prompts
from gnomon.core.models.sampling.text import padding_id
from gnomon.errors import BadInput
from gnomon.methods.adaptive_sampling.evaluator.carriers import Carrier
from gnomon.methods.adaptive_sampling.evaluator.schedule import Restart

Ids = Sequence[int]


@dataclass
class SelfEvaluator:
    """A model that says of its own answers, finished or not, whether it would do better if it started over."""

    model: Any
    """A causal transformers model."""
    tokenizer: Any
    """Its tokenizer."""
    carrier: Carrier
    """How it is asked."""
    restart: Restart
    """What a fresh sample is."""
    tau: float = 1.0
    """Divides the logit of c: calibration, which changes no order."""
    batch_size: int = 64
    """Texts read side by side by `score`."""

    def c(self, logits: Float[Tensor, "B V"]) -> NDArray[np.float64]:
        """C of each row, [B]: the softmax over the two ids alone; no sampling temperature or top-p enters it.

        Args:
            logits: behind the question.

        Source: c = p(No) / (p(No) + p(Yes)).
        """
        pair = logits[:, [self.carrier.no, self.carrier.yes]].double()
        values: NDArray[np.float64] = torch.sigmoid((pair[:, 0] - pair[:, 1]) / self.tau).cpu().numpy()
        return values

    def score(
        self,
        prompts: Sequence[str | Ids],
        responses: Sequence[str | Ids],
        prefix_lengths: Sequence[int | None] | None = None,
    ) -> NDArray[np.float64]:
        """C of each answer, [N].

        Args:
            prompts: texts, or token ids that the answers were written behind.
            responses: answers as texts, or as the token ids that were sampled, the end token among them.
            prefix_lengths: how many tokens of each answer are shown, an unfinished one; None: all of a finished one.

        Raises:
            BadInput: a prefix is longer than its answer, or a text is longer than the model reads: nothing is cut, which would
                change c.
        """
        lengths = [None] * len(prompts) if prefix_lengths is None else list(prefix_lengths)
        rows = [self.row(*args) for args in zip(prompts, responses, lengths, strict=True)]
        self.check_room([len(row) for row in rows])
        return self.read(rows)

    def row(self, prompt: str | Ids, response: str | Ids, length: int | None = None) -> tuple[int, ...]:
        """Token ids behind which c of an answer is read; arguments are those of `score`, of one answer.

        Raises:
            BadInput: the prefix is longer than the answer.
        """
        ids = self._encoded(response, special=False)
        if length is not None and not 0 <= length <= len(ids):
            raise BadInput(f"The answer has {len(ids)} tokens; a prefix of {length} was asked for.")
        shown = ids if length is None else ids[:length]
        kept, suffix = self.carrier.layout(shown, is_finished=length is None)
        return (*self._encoded(prompt), *shown[:kept], *suffix)

    def check_room(self, lengths: Sequence[int]) -> None:
        """Refuse texts that are longer than the model reads.

        Raises:
            BadInput: the message names the first.
        """
        positions = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        for i, length in enumerate(lengths):
            if positions is not None and length > positions:
                raise BadInput(
                    f"Text {i} takes {length} tokens with the question behind it, and the model reads {positions}. A text that is "
                    "cut would get another c; leave it out, or lower --gen.max-new-tokens."
                )

    @torch.no_grad()
    def read(self, rows: Sequence[tuple[int, ...]]) -> NDArray[np.float64]:
        """C behind each of `row`'s results, [N]."""
        values: dict[tuple[int, ...], float] = {}
        distinct = sorted(
            set(rows), key=lambda row: (len(row), row)
        )  # an answer that came twice is read once
        was_training = self.model.training
        self.model.eval()
        try:
            for start in range(0, len(distinct), self.batch_size):
                part = distinct[start : start + self.batch_size]
                logits = read_prompts(self.model, part, range(len(part)), padding_id(self.tokenizer)).logits
                values.update(zip(part, self.c(logits).tolist(), strict=True))
        finally:
            self.model.train(was_training)
        return np.array([values[row] for row in rows])

    def _encoded(self, text: str | Ids, *, special: bool = True) -> list[int]:
        if isinstance(text, str):
            return list(self.tokenizer(text, add_special_tokens=special)["input_ids"])
        return list(text)
