"""The encoder half of T5 with one logit on top, as an ordinary transformers model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.t5.modeling_t5 import T5PreTrainedModel


class T5EncoderClassifierConfig(T5Config):  # type: ignore[no-untyped-call]
    """A T5 configuration; `classifier_dropout` is the dropout on the pooled text."""

    model_type = "gnomon-t5-encoder"


class T5EncoderClassifier(T5PreTrainedModel):  # type: ignore[no-untyped-call]
    """Masked mean of the encoder's last states, dropout, and a linear head with one logit.

    The head begins at 0, so that an untrained classifier says 1/2 to everything and no random choice is in it.
    """

    config_class = T5EncoderClassifierConfig

    def __init__(self, config: T5EncoderClassifierConfig):
        super().__init__(config)
        self.transformer = T5EncoderModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.head = nn.Linear(config.d_model, 1)
        self.post_init()  # type: ignore[no-untyped-call]

    @classmethod
    def around(cls, encoder: T5EncoderModel, dropout: float) -> T5EncoderClassifier:
        """An untrained classifier with a copy of the encoder's weights, in evaluation mode."""
        plain = {**encoder.config.to_dict(), "classifier_dropout": dropout}
        for name in ("architectures", "model_type", "transformers_version"):
            plain.pop(name, None)
        with torch.random.fork_rng(devices=[]):
            model = cls(T5EncoderClassifierConfig(**plain))
        model.transformer.load_state_dict(encoder.state_dict())
        model.train(False)
        return model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> SequenceClassifierOutput:
        """Logits of a pass, [B, 1], from token ids and their mask (1 at real tokens), [B, T]; padding may be on either side."""
        hidden = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
        return SequenceClassifierOutput(logits=self.head(self.dropout(pooled)))

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # type: ignore[no-untyped-call]
        if module is self.head:
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
