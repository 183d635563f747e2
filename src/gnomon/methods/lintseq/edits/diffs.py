"""Edits as text: insertion diffs from sets of lines, the training target, and back to the program."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import dropwhile, takewhile

from gnomon.errors import BadInput

DIFF_TOKEN = "<|diff|>"

_HEADER = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@", re.ASCII)


@dataclass(frozen=True)
class ResolveResult:
    """The program that a sequence of edits builds."""

    code: str | None
    """The program; None when strict resolving met a malformed hunk."""
    n_hunks: int
    """Hunks found, malformed ones included."""
    n_malformed: int
    """Hunks that could not be applied."""


@dataclass(frozen=True)
class _Hunk:
    """Lines to insert so that the first becomes line `start` (1-based) of the text."""

    start: int
    lines: Sequence[str]
    is_exact: bool
    """The header's counts agree with the lines."""


def forward_diffs(lines: Sequence[str], line_sets: Sequence[Sequence[int]]) -> list[str]:
    r"""The edits that insert `line_sets` one by one, as unified diffs without context and file headers.

    They come from the indices and never from comparing texts, so that nothing but insertions can come out.

    Args:
        lines: [N] the program.
        line_sets: [T] disjoint sets of line indices.

    Raises:
        BadInput: the sets are not a partition of the lines.

    Source: B.9, pitfall 1.

    >>> forward_diffs(["a", "b", "c"], [[1], [0, 2]])
    ['@@ -0,0 +1 @@\n+b', '@@ -0,0 +1 @@\n+a\n@@ -1,0 +3 @@\n+c']
    """
    if sorted(line for line_set in line_sets for line in line_set) != list(range(len(lines))):
        raise BadInput(f"The edits must insert each of the {len(lines)} lines exactly once.")
    present: list[int] = []
    diffs = []
    for line_set in line_sets:
        present, diff = _insertion(lines, present, line_set)
        diffs.append(diff)
    return diffs


def _insertion(lines: Sequence[str], present: list[int], line_set: Sequence[int]) -> tuple[list[int], str]:
    """The state after inserting `line_set`, and the diff that does it."""
    new = set(line_set)
    after = sorted(new.union(present))
    text: list[str] = []
    position = 0
    n_old = 0
    while position < len(after):
        if after[position] not in new:
            position, n_old = position + 1, n_old + 1
            continue
        end = position
        while end < len(after) and after[end] in new:
            end += 1
        count = end - position
        text.append(f"@@ -{n_old},0 +{position + 1}{f',{count}' if count > 1 else ''} @@")
        text += [f"+{lines[line]}" for line in after[position:end]]
        position = end
    return after, "\n".join(text)


def states_of(lines: Sequence[str], line_sets: Sequence[Sequence[int]]) -> list[str]:
    """[T + 1] the text before the first edit (empty) and after each of the T edits.

    Args:
        lines: [N] the program's lines.
        line_sets: [T] the line indices that each edit inserts.

    Source: B.8.
    """
    present: set[int] = set()
    texts = [""]
    for line_set in line_sets:
        present.update(line_set)
        texts.append("\n".join([lines[line] for line in sorted(present)]))
    return texts


def render_target(diffs: Sequence[str], diff_token: str = DIFF_TOKEN) -> str:
    """The training target: each edit behind a newline and the diff token, then two empty edits.

    Source: C.10.
    """
    return "".join(f"\n{diff_token}{diff}" for diff in [*diffs, "", ""])


def split_target(text: str, diff_token: str = DIFF_TOKEN, *, eos: str = "") -> list[str]:
    """The edits of a generated text, up to the first empty one.

    Args:
        text: a target, or what a model wrote after the prompt's diff token.
        diff_token: the token between edits.
        eos: an end-of-sequence mark to take off as a whole (pitfall 3).

    Source: D.13, D.14.
    """
    text = text.removesuffix(eos) if eos else text
    edits = f"\n{text}".split(f"\n{diff_token}")
    edits = list(dropwhile(_is_blank, edits))
    return list(takewhile(lambda edit: not _is_blank(edit), edits))


def resolve(
    text_or_diffs: str | Sequence[str], strict: bool = False, *, diff_token: str = DIFF_TOKEN, eos: str = ""
) -> ResolveResult:
    r"""The program that edits build.

    A hunk is malformed when its header cannot be read, when it deletes, or when one of its lines does not
    start with `+`; exactly one `+` is taken off each line. Lenient resolving leaves malformed hunks out and
    appends what lies beyond the end. Strict resolving gives no program when a hunk is malformed, and asks
    more: the counts in the header must be right, and the place must exist.

    Args:
        text_or_diffs: a rendered or generated text, or its edits one by one.
        strict: whether one malformed hunk voids the whole.
        diff_token: the token between edits, for a text.
        eos: an end-of-sequence mark to take off, for a text.

    Source: D.14, pitfalls 2, 3 and 4.

    >>> resolve(["@@ -0,0 +1 @@\n+b", "@@ -0,0 +1 @@\n+a"]).code
    'a\nb'
    """
    edits = (
        split_target(text_or_diffs, diff_token, eos=eos) if isinstance(text_or_diffs, str) else text_or_diffs
    )
    lines: list[str] = []
    n_hunks = n_malformed = 0
    for edit in edits:
        for text in _split_hunks(edit):
            hunk = _parse_hunk(text)
            n_hunks += 1
            if hunk is None or (strict and not (hunk.is_exact and hunk.start <= len(lines) + 1)):
                n_malformed += 1
            else:
                lines[hunk.start - 1 : hunk.start - 1] = hunk.lines
    return ResolveResult(None if strict and n_malformed else "\n".join(lines), n_hunks, n_malformed)


def line_sets_of(diffs: Sequence[str]) -> tuple[list[str], list[list[int]]]:
    """The program that well-formed diffs build, as lines, and the line indices that each diff inserts.

    The inverse of `forward_diffs`.

    Raises:
        BadInput: a hunk is malformed.
    """
    placed: list[tuple[int, str]] = []
    for number, diff in enumerate(diffs):
        for text in _split_hunks(diff):
            hunk = _parse_hunk(text)
            if hunk is None or not hunk.is_exact or hunk.start > len(placed) + 1:
                header = text.split("\n", 1)[0]
                raise BadInput(f'Edit {number + 1} has a malformed hunk, "{header}". Make the edits anew.')
            placed[hunk.start - 1 : hunk.start - 1] = [(number, line) for line in hunk.lines]
    line_sets: list[list[int]] = [[] for _ in diffs]
    for index, (number, _) in enumerate(placed):
        line_sets[number].append(index)
    return [line for _, line in placed], line_sets


def _is_blank(edit: str) -> bool:
    return not edit.strip()


def _split_hunks(edit: str) -> list[str]:
    """The hunks of an edit, each from `@@` at the start of a line; line breaks around them do not count."""
    edit = edit.strip("\n")
    return re.split(r"\n(?=@@)", edit) if edit else []


def _parse_hunk(text: str) -> _Hunk | None:
    """The insertion that a hunk describes, or None when it is malformed."""
    header, *body = text.split("\n")
    match = _HEADER.fullmatch(header.rstrip())
    if match is None or not body or not all(line.startswith("+") for line in body):
        return None
    _, n_deleted, start, n_inserted = match.groups()
    if n_deleted is None or int(n_deleted) or not int(start):
        return None
    return _Hunk(int(start), [line[1:] for line in body], int(n_inserted or 1) == len(body))
