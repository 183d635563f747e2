"""Any sequence classifier of two classes as a judge."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from gnomon.core.env import device_for
from gnomon.core.models import load_tokenizer
from gnomon.errors import BadInput, ModelMismatch
from gnomon.methods.sieve.choosing.snippets import Snippet
from gnomon.methods.sieve.judging.judges import Verdict

BATCH = 32
"""Snippets that are classified together."""


class ClassifierJudge:
    """A sequence classifier that passes what it gives a probability of at least 0.5.

    Args:
        ref: a folder or a hub id; its second class, or its only output, means pass.
        name: what it is called in reports.

    Raises:
        BadInput: nothing is there, or it has no safetensors weights.
        ModelMismatch: it has more than two classes.
    """

    def __init__(self, ref: str, name: str | None = None) -> None:
        from transformers import AutoConfig, AutoModelForSequenceClassification

        self.name = name or f"classifier:{ref}"
        self.is_simulated = False
        try:
            config = AutoConfig.from_pretrained(ref, trust_remote_code=False)
            if config.num_labels > 2:
                raise ModelMismatch(
                    f'Model "{ref}" has {config.num_labels} classes; a judge needs one of two classes, fail and pass.'
                )
            self._model: Any = AutoModelForSequenceClassification.from_pretrained(
                ref, use_safetensors=True, trust_remote_code=False
            ).eval()
            self._model.to(device_for("auto"))
        except (OSError, ValueError) as error:
            first = str(error).splitlines()[0]
            raise BadInput(f'"{ref}" is no sequence classifier with safetensors weights ({first}).') from None
        self._tokenizer = load_tokenizer(ref)

    async def ajudge(self, snippets: Sequence[Snippet]) -> list[Verdict]:
        """A verdict for each snippet, in order, from a thread of its own."""
        found = await asyncio.to_thread(self.probabilities, [snippet.text for snippet in snippets])
        return [Verdict(int(p >= 0.5), f"{p:.4f}", model=self.name) for p in found]

    def probabilities(self, texts: Sequence[str]) -> list[float]:
        """Probability that each text passes, in order."""
        import torch

        found: list[float] = []
        longest = min(
            self._tokenizer.model_max_length, 100_000
        )  # some tokenizers say a number without meaning
        for start in range(0, len(texts), BATCH):
            batch = self._tokenizer(
                list(texts[start : start + BATCH]),
                padding=True,
                truncation=longest < 100_000,
                max_length=longest if longest < 100_000 else None,
                return_tensors="pt",
            ).to(self._model.device)
            with torch.inference_mode():
                logits = self._model(**batch).logits.float()  # [B, 1] or [B, 2]
            passes = logits[:, 0].sigmoid() if logits.shape[1] == 1 else logits.softmax(-1)[:, 1]
            found += passes.tolist()
        return found
