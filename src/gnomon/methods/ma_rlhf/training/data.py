"""Pairs of answers in the layouts in which they come, and the shares of a data set that the three stages take."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gnomon.core import records
from gnomon.core.rollout import Task
from gnomon.core.rollout.chats import answer_ids
from gnomon.errors import BadInput
from gnomon.methods.ma_rlhf.config import Part

SHARES = {"sft": (0.0, 0.2), "reward": (0.2, 0.6), "ppo": (0.6, 1.0)}
"""Part -> its range of the hash. Source: spec point 1."""

SPLIT_SEED = 1234


@dataclass(frozen=True)
class Pair:
    """A prompt with a better and a worse answer."""

    task: Task
    chosen: str
    rejected: str

    def ids(self, tokenizer: Any) -> tuple[list[int], list[int]]:
        """Token ids of prompt and answer, of both."""
        return answer_ids(self.task, self.chosen, tokenizer), answer_ids(self.task, self.rejected, tokenizer)


def is_in(part: Part, prompt: str) -> bool:
    """Whether a row belongs to a part: by the hash of its prompt, so that equal prompts stay together and order plays no role.

    >>> [part for part in ("sft", "reward", "ppo") if is_in(part, "a question")]
    ['reward']
    """
    if part == "all":
        return True
    digest = hashlib.blake2b(f"{SPLIT_SEED}:{prompt}".encode(), digest_size=8).digest()
    low, high = SHARES[part]
    return low <= int.from_bytes(digest, "big") / 2**64 < high


def read_pairs(path: str | Path, *, on_bad: Callable[[str], None] | None = None) -> list[Pair]:
    """The pairs of a file; the layout follows from the columns of each row.

    `prompt`, `chosen`, `rejected` as text or messages; `chosen` and `rejected` as whole conversations, of which the common part
    up to the last turn is the prompt; `info`, `summaries`, `choice` (summarize_from_feedback); `question`, `answer_0`, `answer_1`,
    `score_0`, `score_1` (webgpt_comparisons), where equal scores make no pair.

    Args:
        path: JSONL, JSON, Parquet, a folder of those, or hf://name.
        on_bad: called with the reason for each row that is left out; None: the first one is an error.

    Raises:
        BadInput: a row is no pair, or there is none.
    """
    pairs = []
    for number, (where, raw) in enumerate(records.read_raw(path)):
        try:
            pairs.append(_pair(raw, str(raw.get("id", number)), where))
        except BadInput as error:
            if on_bad is None:
                raise
            on_bad(str(error))
    if not pairs:
        raise BadInput(f"{path} holds no pairs.")
    return pairs


def _pair(raw: Mapping[str, Any], name: str, where: str) -> Pair:
    if "summaries" in raw and "info" in raw:
        info, choice = raw["info"], int(raw["choice"])
        prompt = f"POST Subreddit: r/{info.get('subreddit', '')}\n{info['post']}\nTL;DR: "
        texts = [str(summary["text"]).strip() for summary in raw["summaries"]]
        return _checked(Task(name, prompt), texts[choice], texts[1 - choice], where)
    if "answer_0" in raw and "answer_1" in raw:
        question = raw["question"]
        text = question["full_text"] if isinstance(question, Mapping) else str(question)
        better = float(raw["score_0"]) - float(raw["score_1"])
        if not better:
            raise BadInput(f'{where}, row "{name}": both answers have one score, so neither is better.')
        answers = (str(raw["answer_0"]), str(raw["answer_1"]))
        return _checked(Task(name, text), *(answers if better > 0 else answers[::-1]), where=where)
    if "chosen" not in raw or "rejected" not in raw:
        raise BadInput(
            f'{where}, row "{name}": a pair needs the columns chosen and rejected; it has {", ".join(sorted(raw))}.'
        )
    chosen, rejected, shared = raw["chosen"], raw["rejected"], raw.get("prompt")
    if isinstance(chosen, str) and isinstance(rejected, str) and shared is None:
        begun = _common_turns(chosen, rejected)
        return _checked(Task(name, begun), chosen[len(begun) :], rejected[len(begun) :], where)
    if not isinstance(chosen, str):
        messages = list(chosen)
        before = (
            list(shared) if isinstance(shared, Sequence) and not isinstance(shared, str) else messages[:-1]
        )
        if shared is None and list(rejected)[:-1] != before:
            raise BadInput(f'{where}, row "{name}": chosen and rejected differ before the last turn.')
        if isinstance(shared, str):
            before = [{"role": "user", "content": shared}]
        return _checked(
            Task(name, "", tuple(before)), messages[-1]["content"], list(rejected)[-1]["content"], where
        )
    if isinstance(shared, str):
        return _checked(Task(name, shared), chosen, str(rejected), where)
    return _checked(Task(name, "", tuple(shared or ())), chosen, str(rejected), where)


def _common_turns(chosen: str, rejected: str, turn: str = "\n\nAssistant:") -> str:
    """What two conversations share, up to and with where the assistant's last turn begins."""
    shared = next(
        (i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b),
        min(len(chosen), len(rejected)),
    )
    at = chosen.rfind(turn, 0, shared + len(turn))
    return chosen[: at + len(turn)] if at >= 0 and rejected.startswith(chosen[: at + len(turn)]) else ""


def _checked(task: Task, chosen: str, rejected: str, where: str) -> Pair:
    if not (task.prompt.strip() or task.messages):
        raise BadInput(f'{where}, row "{task.id}": chosen and rejected share no prompt.')
    for name, text in (("chosen", chosen), ("rejected", rejected)):
        if not str(text).strip():
            raise BadInput(f'{where}, row "{task.id}": the answer {name} is empty.')
    if chosen == rejected:
        raise BadInput(f'{where}, row "{task.id}": both answers are the same.')
    return Pair(task, str(chosen), str(rejected))


def shorter_is_better(pairs: Iterable[Pair]) -> float:
    """Share of pairs whose better answer is the shorter one, ties half: what a rule of length alone is right on."""
    rows = list(pairs)
    wins = [(len(p.chosen) < len(p.rejected)) + 0.5 * (len(p.chosen) == len(p.rejected)) for p in rows]
    return sum(wins) / len(wins)
