"""Carriers: in which tokens a model is asked whether it would do better if it started over, and where its reply is read.

Source: arXiv 2410.02725, section 2 of the specification (`text`, `token`); `reserved` after arXiv 2512.01457.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from gnomon.core.files import room_file
from gnomon.core.models.adapters import add_token
from gnomon.core.models.sampling.decoding import read_prompts
from gnomon.core.models.sampling.text import padding_id
from gnomon.core.rollout import next_turn
from gnomon.errors import BadConfig, ModelMismatch

log = logging.getLogger(__name__)

Kind = Literal["token", "text", "reserved"]
KINDS = ("token", "text", "reserved")

SELF_EVAL, BETTER, NO_BETTER = "<|selfeval|>", "<|better|>", "<|nobetter|>"
"""The added tokens: the question, and its two replies."""

SPELLINGS = (("Yes", "No"), (" Yes", " No"))
"""Both are single tokens in many vocabularies; which one follows an opened turn, the template decides."""


@dataclass(frozen=True)
class Carrier:
    """How the question is put behind an answer."""

    kind: Kind
    """token: one added token; text: a turn of the user; reserved: nothing, two unused logits are read at every token."""
    yes: int
    """Id that says that starting over would give something better."""
    no: int
    """Id that says that it would not: win or tie."""
    ends: tuple[int, ...]
    """Ids that end an answer; the first is put behind a finished one that has none, where a turn follows."""
    finished: tuple[int, ...] = ()
    """Ids of the question behind a finished answer."""
    partial: tuple[int, ...] = ()
    """Ids of the question behind the beginning of one."""

    @property
    def banned(self) -> tuple[int, ...]:
        """Ids that no answer may hold: those that were added for the question."""
        if self.kind == "text":
            return ()
        return tuple(sorted({self.yes, self.no, *self.finished}))

    @property
    def longest(self) -> int:
        """Tokens behind an answer, at most."""
        return max(len(self.finished), len(self.partial)) + (1 if self.kind == "text" else 0)

    def layout(self, ids: Sequence[int], *, is_finished: bool) -> tuple[int, tuple[int, ...]]:
        """Where c of an answer is read.

        Args:
            ids: the answer's own token ids as they were sampled, which stay as they are.
            is_finished: whether it is all of the answer.

        Returns:
            How many of `ids` are read, and what follows them; c is in the logits behind the last.
        """
        has_end = bool(ids) and ids[-1] in self.ends
        if self.kind == "reserved":  # the token that ends an answer says nothing more about it
            return len(ids) - has_end, ()
        if self.kind == "token":
            return len(ids), self.finished
        if not (is_finished or has_end):
            return len(ids), self.partial
        return len(ids), self.finished if has_end else (*self.ends[:1], *self.finished)


def new_carrier(
    kind: Kind,
    model: Any,
    tokenizer: Any,
    *,
    instructions: tuple[str, str] | None = None,
    probes: Sequence[Sequence[int]] = (),
) -> Carrier:
    """A carrier for a model, which is taught the tokens that it needs.

    Args:
        kind: which.
        model: a causal model; `token` and `reserved` give it tokens, adapters come after that.
        tokenizer: its tokenizer, which gets them too.
        instructions: for `text`: the question behind a finished answer and behind an unfinished one; None: the room's own.
        probes: for `text`: prompts, as token ids, with answers; the spelling of Yes and No that is chosen must hold more mass
            behind them than the other, or the carrier is `token` after all.

    Raises:
        BadConfig: there is no such kind.
        ModelMismatch: an added token is not one ordinary token of this tokenizer.
    """
    if kind not in KINDS:
        raise BadConfig(f"carrier must be one of {', '.join(KINDS)}; got {kind!r}.")
    ends = end_ids(model, tokenizer)
    if kind == "text":
        finished, partial = instructions or (instruction("finished"), instruction("partial"))
        end, question = next_turn(finished, tokenizer)
        _, question_so_far = next_turn(partial, tokenizer)
        ends = tuple(dict.fromkeys((*end, *ends)))
        pair = _spelling(model, tokenizer, [[*probe, *question] for probe in probes])
        if pair is not None:
            return Carrier("text", *pair, ends, tuple(question), tuple(question_so_far))
        log.warning(
            "Neither spelling of Yes and No is safe as two single tokens here; the carrier is token in place of text."
        )
        kind = "token"
    yes, no = (add_token(model, tokenizer, token) for token in (BETTER, NO_BETTER))
    if kind == "reserved":
        return Carrier("reserved", yes, no, ends)
    question = (add_token(model, tokenizer, SELF_EVAL),)
    return Carrier("token", yes, no, ends, question, question)


def instruction(name: str) -> str:
    """A text of `prompts/`, or of a file."""
    path = Path(name)
    return (
        (path if path.is_file() else room_file("gnomon.methods.adaptive_sampling", f"prompts/{name}.txt"))
        .read_text("utf-8")
        .strip()
    )


def end_ids(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """Ids that end an answer, the tokenizer's own first."""
    named = getattr(model.generation_config, "eos_token_id", None)
    ids = [tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])]
    return tuple(dict.fromkeys(i for i in ids if i is not None))


def _spelling(model: Any, tokenizer: Any, probes: Sequence[Sequence[int]]) -> tuple[int, int] | None:
    """Ids of Yes and No, the spelling that the template asks for; None where it is none, or the other is likelier."""
    # Behind an opened turn stands no space; a plain "Assistant:" wants one.
    ordered = SPELLINGS if getattr(tokenizer, "chat_template", None) else SPELLINGS[::-1]
    pairs = []
    for words in ordered:
        ids = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
        is_single = all(len(row) == 1 for row in ids) and ids[0] != ids[1]
        unknown = tokenizer.unk_token_id
        pairs.append((ids[0][0], ids[1][0]) if is_single and unknown not in (ids[0][0], ids[1][0]) else None)
    wanted, other = pairs
    if wanted is None or other is None or wanted == other or not probes:
        return wanted
    with torch.no_grad():
        logits = torch.cat(
            [read_prompts(model, [probe], [0], padding_id(tokenizer)).logits for probe in probes]
        )
    mass = logits.float().softmax(-1)
    return wanted if float(mass[:, list(wanted)].sum()) >= float(mass[:, list(other)].sum()) else None


def check_single(carrier: Carrier, tokenizer: Any) -> None:
    """Refuse a tokenizer that does not have the carrier's tokens.

    Raises:
        ModelMismatch: an id lies outside its vocabulary.
    """
    if max(carrier.yes, carrier.no, *carrier.finished, *carrier.partial, 0) >= len(tokenizer):
        raise ModelMismatch(
            "The tokenizer does not have the tokens of the self-evaluation. Load the one that was saved with it."
        )
