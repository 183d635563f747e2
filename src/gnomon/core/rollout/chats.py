"""Conversations as training examples, with targets on what the assistant says and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gnomon.core.config import option
from gnomon.core.rollout.tasks import Task
from gnomon.core.train.batches import Example
from gnomon.core.train.losses import IGNORED
from gnomon.errors import BadInput

Messages = Sequence[Mapping[str, Any]]


def examples(
    rows: Iterable[Any],
    processor: Any,
    *,
    see: Callable[[Sequence[str], Sequence[Any]], Sequence[Any]] | None = None,
    max_length: int | None = None,
    on_bad: Callable[[str], None] | None = None,
) -> list[Example]:
    """Rows as training examples.

    A row is a mapping, or an object with such fields. `messages` are written by the tokenizer's chat template, or where it has none
    as `User:` and `Assistant:`; targets are the assistant's turns up to and with the token that ends a turn. `prompt` (text, or
    messages) with `completion` (or `text`, as traces have it) is one turn; two plain texts are taken as they are, with the
    end-of-text token behind. `input_ids` are taken as they are too.

    Further fields, all optional: `weight` of the row's targets; `soft`, token id -> probability of the token behind the row, which
    is then the only target (labels by shares); `images`, for `see`, of which no token is a target; `id`, for messages.

    Args:
        rows: what to learn from.
        processor: a tokenizer, or the processor of a vision-language model.
        see: processes texts with images, `ModelHandle.see`; needed where rows have images.
        max_length: tokens that will be kept; only an image that would be cut is an error here.
        on_bad: called with the reason for each row that is left out; None: the first one is an error.

    Raises:
        BadInput: a row has no target, its template rewrites earlier turns, or an image would be cut; the message names the row.
    """
    tokenizer = getattr(processor, "tokenizer", processor)
    kept = []
    for number, raw in enumerate(rows):
        row = raw if isinstance(raw, Mapping) else vars(raw)
        name = f"row {number}" + (f" (id {row['id']})" if row.get("id") not in (None, "") else "")
        try:
            kept.append(_example(row, processor, tokenizer, see, max_length, name))
        except BadInput as error:
            if on_bad is None:
                raise
            on_bad(str(error))
    return kept


def _example(
    row: Mapping[str, Any], processor: Any, tokenizer: Any, see: Any, max_length: int | None, name: str
) -> Example:
    ids, is_target, begun = _tokens(row, processor, tokenizer, name)
    soft, seen = row.get("soft"), None
    if row.get("images"):
        text, length = begun
        if see is None:
            raise BadInput(f"{name} has images; give `see`, as ModelHandle.see of a vision-language model.")
        (seen,) = see([text], [row["images"]])
        if max_length is not None and len(seen.ids) >= max_length:
            raise BadInput(
                f"{name}: its images and what stands before the first answer take {len(seen.ids)} tokens, and {max_length} are "
                f"kept. Raise {option('train.max_length')}."
            )
        # What stands before the first answer is as the model sees it, its image tokens laid out; none of it is a target.
        ids, is_target = [*seen.ids, *ids[length:]], [False] * len(seen.ids) + is_target[length:]
    if soft is not None:
        shares = {int(token): float(share) for token, share in soft.items()}
        if not shares or min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-4:
            raise BadInput(f"{name}: the soft target {dict(soft)} must hold probabilities that sum to 1.")
        # What stands at the place itself is read by nothing.
        ids, is_target = [*ids, max(shares, key=lambda token: (shares[token], -token))], []
        example = Example(ids, [IGNORED] * len(ids), soft={len(ids) - 1: shares})
    else:
        example = Example(
            ids, [token if target else IGNORED for token, target in zip(ids, is_target, strict=True)]
        )
        if not any(label != IGNORED for label in example.labels[1:]):
            raise BadInput(f"{name} has no target: no turn of the assistant says anything.")
    weight = row.get("weight")
    if weight is not None:
        if not (isinstance(weight, int | float) and 0 <= weight < float("inf")):
            raise BadInput(f"{name}: the weight must be a number from 0; got {weight!r}.")
        example = replace(example, weight=float(weight))
    return example if seen is None else replace(example, seen=seen.longer(example.input_ids[len(seen.ids) :]))


Begun = tuple[str, int]
"""What stands before the first answer, and how many tokens it has."""


def _tokens(
    row: Mapping[str, Any], processor: Any, tokenizer: Any, name: str
) -> tuple[list[int], list[bool], Begun]:
    """Token ids of a row, which of them are targets, and how the row begins."""
    if row.get("input_ids") is not None:
        ids = list(row["input_ids"])
        labels = row.get("labels")
        is_target = [True] * len(ids) if labels is None else [label != IGNORED for label in labels]
        if len(is_target) != len(ids):
            raise BadInput(f"{name} has {len(ids)} tokens and {len(is_target)} labels.")
        return ids, is_target, ("", 0)
    prompt = row.get("prompt")
    written = next((row[key] for key in ("completion", "text") if row.get(key) is not None), None)
    messages: list[Any] = list(row.get("messages") or ())
    if not messages and isinstance(prompt, str):
        if written is None and row.get("soft") is None:
            raise BadInput(f"{name} has a prompt and no completion.")
        begun = list(tokenizer(prompt)["input_ids"])
        if written is None:
            return begun, [False] * len(begun), (prompt, len(begun))
        answer = list(tokenizer(str(written), add_special_tokens=False)["input_ids"])
        if not answer:
            raise BadInput(f"{name} has no target: its completion is empty.")
        end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        is_target = [False] * len(begun) + [True] * (len(answer) + len(end))
        return [*begun, *answer, *end], is_target, (prompt, len(begun))
    if not messages:
        messages = list(prompt or ())
        if written is not None:
            messages.append({"role": "assistant", "content": str(written)})
    if not messages:
        raise BadInput(f"{name} has no messages and no prompt.")
    return _rendered(messages, processor, tokenizer, name)


def _rendered(
    messages: Messages, processor: Any, tokenizer: Any, name: str
) -> tuple[list[int], list[bool], Begun]:
    """Each turn of the assistant, written behind what the model would have been asked with."""
    ids: list[int] = []
    is_target: list[bool] = []
    done, first = "", None
    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        begun = _written(messages[:i], processor, asks=True)
        whole = _written(messages[: i + 1], processor)
        if not begun.startswith(done) or not whole.startswith(begun):
            raise BadInput(
                f"{name}: the chat template writes turn {i} otherwise than what stands before it, so that earlier turns would be "
                "learned in a form that is never read. Leave the row out, or split the conversation."
            )
        ids = _longer(ids, done, begun, tokenizer)
        is_target += [False] * (len(ids) - len(is_target))
        first = first or (begun, len(ids))
        ids = _longer(ids, begun, whole, tokenizer)
        turn = ids[len(is_target) :]
        # What the template writes behind the token that ends the turn is not the assistant's.
        last = max(
            (at for at, token in enumerate(turn) if token in tokenizer.all_special_ids), default=len(turn) - 1
        )
        says = bool(str(_text_of(message["content"])).strip())
        is_target += [says and at <= last for at in range(len(turn))]
        done = whole
    rest = _written(messages, processor, asks=messages[-1]["role"] != "assistant")
    if not rest.startswith(done):
        raise BadInput(f"{name}: the chat template rewrites earlier turns.")
    ids = _longer(ids, done, rest, tokenizer)
    return ids, is_target + [False] * (len(ids) - len(is_target)), first or (rest, len(ids))


def _longer(ids: list[int], before: str, text: str, tokenizer: Any) -> list[int]:
    """Token ids of `text`, which begins with `before`, whose ids these are and stay: the model will go on from them."""
    whole = list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []
    if whole[: len(ids)] == ids:
        return whole
    return ids + list(tokenizer(text[len(before) :], add_special_tokens=False)["input_ids"])


def _written(messages: Messages, processor: Any, *, asks: bool = False) -> str:
    """A conversation as text; with `asks` up to where the assistant's next turn begins."""
    tokenizer = getattr(processor, "tokenizer", processor)
    if not messages:
        return ""
    writer = processor if getattr(processor, "chat_template", None) else tokenizer
    if getattr(writer, "chat_template", None):
        return str(writer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=asks))
    end = tokenizer.eos_token or ""
    turns = [
        f"{message['role'].capitalize()}: {_text_of(message['content'])}"
        + (end if message["role"] == "assistant" else "")
        + "\n\n"
        for message in messages
    ]
    return (tokenizer.bos_token or "") + "".join(turns) + ("Assistant:" if asks else "")


def _text_of(content: Any) -> str:
    """The text of a message, whose content may be parts."""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content if isinstance(part, Mapping))


def prompt_ids(task: Task, processor: Any) -> list[int]:
    """Token ids that a policy goes on from: a task's messages up to the assistant's turn, or its prompt."""
    tokenizer = getattr(processor, "tokenizer", processor)
    if task.messages:
        text = _written(task.messages, processor, asks=True)
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    return list(tokenizer(task.prompt)["input_ids"])


def next_turn(text: str, processor: Any) -> tuple[list[int], list[int]]:
    """How a conversation goes on behind an answer that is there as token ids, which stay as they are.

    Args:
        text: what the user says next.
        processor: a tokenizer, or the processor of a vision-language model.

    Returns:
        Ids that end an answer (none where nothing does), and ids of the user's turn up to where the assistant's next turn begins.

    Raises:
        BadInput: the chat template writes no answer as it is.
    """
    tokenizer = getattr(processor, "tokenizer", processor)
    answer = "Xyzzy"
    turns = [("user", "A"), ("assistant", answer), ("user", text)]
    whole = _written([{"role": role, "content": content} for role, content in turns], processor, asks=True)
    _, mark, rest = whole.rpartition(answer) if answer not in text else ("", "", "")
    if not mark:
        raise BadInput(f"The chat template does not write the answer {answer!r} as it is.")
    ids = list(tokenizer(rest, add_special_tokens=False)["input_ids"])
    opened = _written([{"role": "user", "content": "A"}], processor).removeprefix(tokenizer.bos_token or "")
    # What ends a turn is one special token that stands first, unless the user's turn begins with it.
    is_end = ids[:1] and ids[0] in tokenizer.all_special_ids
    first = str(tokenizer.decode(ids[:1]))
    ends = 1 if is_end and (ids[0] == tokenizer.eos_token_id or not opened.startswith(first)) else 0
    return ids[:ends], ids[ends:]


def answer_ids(task: Task, completion: str, processor: Any) -> list[int]:
    """Token ids of a task with its answer, to be scored: up to and with the token that ends the turn, or the text."""
    row = (
        {"messages": [*task.messages, {"role": "assistant", "content": completion}]}
        if task.messages
        else None
    )
    tokenizer = getattr(processor, "tokenizer", processor)
    if row is None:
        begun = list(tokenizer(task.prompt)["input_ids"])
        end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        return [*begun, *tokenizer(completion, add_special_tokens=False)["input_ids"], *end]
    ids, is_target, _ = _tokens(row, processor, tokenizer, f'task "{task.id}"')
    # An empty answer has no target; it is scored where the turn begins.
    last = max((i for i, target in enumerate(is_target) if target), default=len(ids) - 1)
    return ids[: last + 1]
