"""Conversations as token ids, by the chat template of a tokenizer."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from gnomon.core.llm.base import Message, Request
from gnomon.core.llm.chat import folded, say_folded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

_PROBE = "a system text to look for"


class Template:
    """How one model wants a conversation written.

    Without a chat template the messages stand one after another with empty lines between. A template without a system role, one
    that refuses it or drops it, gets the system text at the start of the first user message. Either is logged once.

    Args:
        tokenizer: the model's tokenizer.
        name: what the model is called, for messages.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, name: str):
        self.tokenizer, self.name = tokenizer, name
        self.is_plain = not getattr(tokenizer, "chat_template", None)
        if self.is_plain:
            log.warning("%s has no chat template; messages are put one after another.", name)
        self._knows_system = self.is_plain or self._has_system_role()
        self._has_said = False

    def encode(self, request: Request) -> list[int]:
        """Token ids up to where the answer begins."""
        messages = request.messages
        if not self._knows_system and any(m.role == "system" for m in messages):
            if not self._has_said:
                say_folded(self.name)
                self._has_said = True
            messages = folded(messages)
        if self.is_plain:
            text = "\n\n".join(m.content for m in messages) + "\n\n"
            return list(self.tokenizer(text)["input_ids"])
        # The template writes the special tokens itself; the tokenizer must not add them again.
        return list(self.tokenizer(self._written(messages), add_special_tokens=False)["input_ids"])

    def _written(self, messages: tuple[Message, ...]) -> str:
        turns: Any = [{"role": m.role, "content": m.content} for m in messages]
        return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    def _has_system_role(self) -> bool:
        from jinja2 import TemplateError

        try:
            return _PROBE in self._written((Message("system", _PROBE), Message("user", "Hello")))
        except TemplateError:
            return False
