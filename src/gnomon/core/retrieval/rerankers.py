"""Candidates ordered anew by a model that reads question and passage together, or by what a passage tells a language model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from gnomon.core.env import device_for
from gnomon.core.metrics.lm import token_nll
from gnomon.core.models.batch import by_length, pad
from gnomon.core.models.load import LoadConfig, load_config, load_tokenizer, load_weights, model_at
from gnomon.core.models.load.placement import from_pretrained_arguments
from gnomon.core.models.sampling.text import padding_id
from gnomon.core.retrieval.passages import Passage
from gnomon.core.too_long import longest_input, positions_of
from gnomon.errors import BadConfig, BadInput, ModelMismatch

if TYPE_CHECKING:
    from gnomon.core.models.handle import ModelHandle

BATCH_TOKENS = 4096
"""Tokens of a batch, padding among them."""

Start = Literal["bos", "eos", "none"]
_STARTS = ("bos", "eos", "none")


class CrossEncoder:
    """Scores of pairs (question, passage) by a sequence classifier that reads both.

    Args:
        ref: a folder or hub id of a classifier with one label, whose logit is the score, or with two, where it is the logit of the
            second label less that of the first. An activation that a folder of sentence-transformers names is left out: it changes
            no order.
        load: how it is loaded.
        batch_tokens: tokens of a batch, padding among them.

    Raises:
        BadInput: nothing can be loaded from `ref`.
        ModelMismatch: the classifier has more labels, or is none.
    """

    def __init__(self, ref: str | Path, load: LoadConfig | None = None, *, batch_tokens: int = BATCH_TOKENS):
        from transformers import AutoModelForSequenceClassification

        load = load or LoadConfig()
        source, device = model_at(ref), device_for(load.device)
        config = load_config(source, load.revision)
        classes = config.architectures or []
        if not any(name.endswith("ForSequenceClassification") for name in classes) or config.num_labels > 2:
            what = ", ".join(classes) or config.model_type
            raise ModelMismatch(
                f'Model "{ref}" is {what} with {config.num_labels} labels; reranking needs a sequence classifier with one or two.'
            )
        arguments = from_pretrained_arguments(load, device)
        model = load_weights(AutoModelForSequenceClassification, source, **arguments)
        self.model = (model if "device_map" in arguments else model.to(device)).eval()
        self.tokenizer = load_tokenizer(source, load)
        self.max_tokens = longest_input(self.model, self.tokenizer)
        self.batch_tokens = batch_tokens
        self.n_pairs = self.n_too_long = 0

    def score(self, query: str, passages: Sequence[Passage]) -> list[float]:
        """The score of each passage, higher is better; the end of a passage that is too long is left out and counted.

        Raises:
            BadInput: the question alone leaves no room for a passage.
        """
        rows = [self._row(query, passage.text) for passage in passages]
        scores = [0.0] * len(rows)
        for numbers in by_length([len(ids) for ids, _ in rows], self.batch_tokens):
            batch = pad([rows[i][0] for i in numbers], padding_id(self.tokenizer), "right")
            inputs = {"input_ids": batch.input_ids, "attention_mask": batch.mask.long()}
            if rows[numbers[0]][1] is not None:
                inputs["token_type_ids"] = pad([rows[i][1] or [] for i in numbers], 0, "right").input_ids
            with torch.inference_mode():
                logits = self.model(**{k: v.to(self.model.device) for k, v in inputs.items()}).logits.float()
            values = logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]
            for i, value in zip(numbers, values.tolist(), strict=True):
                scores[i] = value
        self.n_pairs += len(rows)
        return scores

    def _row(self, query: str, text: str) -> tuple[list[int], list[int] | None]:
        """Token ids of a pair, and which of the two texts each belongs to where the model asks for that."""
        row = self.tokenizer(query, text, verbose=False)
        if self.max_tokens is not None and len(row["input_ids"]) > self.max_tokens:
            without = len(self.tokenizer(query, "", verbose=False)["input_ids"])
            if without >= self.max_tokens:
                raise BadInput(
                    f"The question has {without} tokens and the reranker reads {self.max_tokens}, so no passage fits."
                )
            row = self.tokenizer(query, text, truncation="only_second", max_length=self.max_tokens)
            self.n_too_long += 1
        return row["input_ids"], row.get("token_type_ids")


class Gain:
    """What a passage tells a language model about a text: its log-likelihood given the passage, less that without it.

    Per token, in nats; the pointwise mutual information of passage and text, by the model. As a reranker the text is the question.
    Token ids are put together and not strings, so that the text has the same tokens in both.

    Args:
        lm: a handle on a causal model.
        start: the token in front of both: bos, eos, or none. Without one the first token of the text is predicted from nothing, and
            is left out of both.
        separator: between passage and text.
        batch_tokens: tokens of a batch, padding among them.

    Raises:
        ModelMismatch: the model is not causal, or its tokenizer has no such token.
        BadConfig: there is no such start.
    Source: arXiv 2411.07773 (pointwise mutual information tracks the accuracy of retrieval-augmented answers).
    """

    def __init__(
        self,
        lm: ModelHandle,
        *,
        start: Start = "bos",
        separator: str = "\n",
        batch_tokens: int = BATCH_TOKENS,
    ):
        if lm.kind != "causal":
            raise ModelMismatch(f"{type(lm.model).__name__} is a {lm.kind} model; Gain needs a causal one.")
        if start not in _STARTS:
            raise BadConfig(f'start must be {", ".join(_STARTS)}; got "{start}".')
        token = None if start == "none" else getattr(lm.tokenizer, f"{start}_token_id")
        if token is None and start != "none":
            raise ModelMismatch(
                f'The tokenizer has no {start} token. Set start to "none" or another of {", ".join(_STARTS)}.'
            )
        self.lm, self.batch_tokens = lm, batch_tokens
        self.start = [] if token is None else [token]
        self.separator = self._ids(separator)
        self.max_tokens = positions_of(lm.model)
        self.n_pairs = 0

    def score(self, query: str, passages: Sequence[Passage]) -> list[float]:
        """The gain of the question from each passage, higher is better. Errors as in `gains`."""
        return self.gains([passage.text for passage in passages], [query] * len(passages))

    def gains(self, contexts: Sequence[str], texts: Sequence[str]) -> list[float]:
        """The gain of each text from its own context, in nats per token. Nothing is ever cut: what is left out would not be missed.

        Args:
            contexts: what is read first: a passage, or one with the question when the text is an answer.
            texts: what is predicted. Each different one is read once without a context.

        Raises:
            BadInput: a text has no token that is predicted, or with its context is longer than the model reads; the message names
                the limit.
        """
        targets = [self._ids(text) for text in texts]
        first = 1 - len(self.start)  # without a start the first token is predicted in neither
        heads = []
        for number, (context, ids) in enumerate(zip(contexts, targets, strict=True)):
            if len(ids) <= first:
                raise BadInput(f"Text {number} has {len(ids)} tokens and none to predict.")
            heads.append([*self.start, *self._ids(context), *self.separator])
            self._check_length(len(heads[-1]) + len(ids), len(ids), number)
        bare = list(dict.fromkeys(map(tuple, targets)))
        alone = self._nll([self.start] * len(bare), bare, first)
        informed = self._nll(heads, targets, first)
        without = dict(zip(bare, alone, strict=True))
        self.n_pairs += len(heads)
        return [
            (without[tuple(ids)] - nll) / (len(ids) - first)
            for ids, nll in zip(targets, informed, strict=True)
        ]

    def _check_length(self, total: int, length: int, number: int) -> None:
        if self.max_tokens is not None and total > self.max_tokens:
            raise BadInput(
                f"Context and text {number} have {total} tokens, {length} of them the text's, and the model reads "
                f"{self.max_tokens}. Cut passages smaller, or take a model that reads more."
            )

    def _nll(
        self, heads: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], first: int
    ) -> list[float]:
        """Summed negative log-likelihood of the targets' tokens from number `first` on, each behind its own head."""
        rows = [[*head, *ids] for head, ids in zip(heads, targets, strict=True)]
        values = [0.0] * len(rows)
        for numbers in by_length([len(row) for row in rows], self.batch_tokens):
            starts = [len(heads[i]) + first for i in numbers]
            nll, _ = token_nll(self.lm.model, [rows[i] for i in numbers], starts)
            for i, value in zip(numbers, nll.tolist(), strict=True):
                values[i] = value
        return values

    def _ids(self, text: str) -> list[int]:
        ids: Any = self.lm.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return list(ids)
