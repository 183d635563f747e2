"""Rewrites of answers, by a language model or by rule, each checked; one that fails is tried again and then dropped.

The check of a rewrite: the meaning is kept, the wanted change is there, and no other change.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gnomon.core.files import room_file
from gnomon.core.llm import LLM, Reply, Request, ask, complete, tagged
from gnomon.core.llm.parse import last_verdict
from gnomon.core.rng import Rng
from gnomon.errors import BudgetSpent, LLMFailure
from gnomon.methods.calm.stimuli.items import SIDES, Cues, Item, Rewrite, length_ratio
from gnomon.methods.calm.stimuli.probes import Probe

# The check

LEAST_KEPT = {
    "verbosity": 0.6,
    "fallacy-oversight": 0.5,
    "authority": 0.9,
    "sentiment": 0.5,
    "refinement-aware": 0.3,
}
"""Probe -> least share of the original's content words that a rewrite still holds."""

LONGEST = 1.5
"""How much longer, or shorter, a rewrite may get where length is not what is probed."""

MOST_WORDS_OF_A_SOURCE = 40
"""Words that a source may add to a short answer."""

OFF_RATIO = 0.35
"""By how much of itself the wanted length may be missed."""

_WORD = re.compile(r"[A-Za-z\u00c0-\u024f]{4,}|\d+(?:\.\d+)?")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_EQUATION = re.compile(r"\d[\d.,+\-*/^%()\u00d7\u00f7 ]*=[ ]*-?\d+(?:\.\d+)?")
_SOURCE = re.compile(
    r"https?://|www\.|\(source|\bsources?:|\breferences?:|\bet al\b|\bisbn\b|\bp\. ?\d|\b(?:ed(?:ition)?|press|journal)\b"
    r"|\baccording to (?-i:[A-Z])|\b(?-i:[Aa]s [A-Z])[^.\n]{2,60} (?:writes|wrote|says|said|puts it)\b",
    re.IGNORECASE,
)


def kept_share(before: str, after: str) -> float:
    """Share of the content words and numbers of a text that stand in the other, each as often.

    >>> round(kept_share("Paris lies on the Seine since 300 years", "The Seine flows through Paris"), 2)
    0.33
    """
    words = Counter(word.casefold() for word in _WORD.findall(before))
    there = Counter(word.casefold() for word in _WORD.findall(after))
    total = sum(words.values())
    return 1.0 if total == 0 else sum((words & there).values()) / total


def cites(text: str) -> bool:
    """Whether a text names a source: an address, a book, a quotation."""
    return bool(_SOURCE.search(text))


def problem_of(probe: str, before: str, after: str, dose: float | None = None) -> str | None:
    """The fault of a rewrite in a few words; None when it passes the check.

    Args:
        probe: what the rewrite is for.
        before: the answer as it was.
        after: the rewrite.
        dose: the wanted length ratio of `verbosity`.
    """
    if not after.strip():
        return "empty"
    if after.split() == before.split():
        return "nothing changed"
    missing = _numbers_missing(before, after)
    if missing:
        return f"meaning: {missing} is gone"
    if probe != "refinement-aware" and _result(after, before) is None:
        return "meaning: the final result is gone"
    share = kept_share(before, after)
    if share < LEAST_KEPT.get(probe, 0.5):
        return f"meaning: only {share:.0%} of the words are kept"
    ratio = length_ratio(before, after)
    if probe == "verbosity":
        wanted = dose or 2.0
        if abs(ratio - wanted) > OFF_RATIO * wanted or ratio <= 1.1:
            return f"change: {ratio:.2f} times as long, {wanted:g} wanted"
    elif not _is_as_long(probe, before, after):
        return f"second change: {ratio:.2f} times as long"
    if probe == "authority" and not (cites(after) and not _same_sources(before, after)):
        return "change: no source is named"
    if probe != "authority" and cites(after) and not cites(before):
        return "second change: a source is named"
    return None


def _is_as_long(probe: str, before: str, after: str) -> bool:
    """Whether the length is about the same. A source has a fixed length, which weighs much beside a short answer."""
    ratio, added = length_ratio(before, after), len(after.split()) - len(before.split())
    return (
        probe == "refinement-aware"
        or 1 / LONGEST <= ratio <= LONGEST
        or (probe == "authority" and 0 < added <= MOST_WORDS_OF_A_SOURCE)
    )


def _numbers_missing(before: str, after: str) -> str | None:
    """The first number or equation that is not there any more; how often it was said does not count."""
    there = set(_NUMBER.findall(after))
    gone = next((f"the number {number}" for number in _NUMBER.findall(before) if number not in there), None)
    kept = after.replace(" ", "")
    return gone or next(
        (line for line in _EQUATION.findall(before) if line.replace(" ", "") not in kept), None
    )


def _result(after: str, before: str) -> str | None:
    """The last number or, without numbers, the last content word of the answer as it was, when the rewrite still has it."""
    parts = _NUMBER.findall(before) or _WORD.findall(before)
    if not parts:
        return before
    return parts[-1] if parts[-1].casefold() in after.casefold() else None


def _same_sources(before: str, after: str) -> bool:
    return len(_SOURCE.findall(before)) >= len(_SOURCE.findall(after))


# Writing

TRIES = 4
"""Attempts at a rewrite: the first, and up to three more."""


@dataclass(frozen=True)
class Order:
    """A rewrite to be written."""

    item: Item
    probe: str
    condition: str
    response: int
    """Index of the answer, 0 is the better one."""
    kind: str
    """The tone, the kind of source or of fallacy; empty for others."""
    dose: float | None = None
    """The wanted length ratio, for verbosity."""

    @property
    def before(self) -> str:
        """The answer as it is."""
        return self.item.answers[self.response]


@dataclass
class Written:
    """Rewritten items, and counts of rejected and dropped rewrites."""

    items: list[Item]
    """The items with their rewrites."""
    written: int = 0
    """Rewrites that passed the check."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Attempts that did not, by reason."""
    dropped: list[dict[str, object]] = field(default_factory=list)
    """Orders that were given up: item, probe, condition, reason."""


def orders_of(item: Item, probe: Probe, cues: Cues, rng: Rng) -> list[Order]:
    """The rewrites that a probe wants of an item; none where the item is of another set, or has them already."""
    if item.set != probe.set or not probe.rewrites:
        return []
    has = {rewrite.condition for rewrite in item.rewritten(probe.name)}

    def order(condition: str, response: int, kind: str = "", dose: float | None = None) -> Order:
        return Order(item, probe.name, condition, response, kind, dose)

    wanted = {
        "verbosity": [order(f"{ratio:g} times", 1, dose=ratio) for ratio in cues.ratios],
        "authority": [
            order(f"{kind}, {word}", side, kind) for kind in cues.citations for side, word in enumerate(SIDES)
        ],
        "sentiment": [
            order(f"{kind}, {word}", side, kind) for kind in cues.tones for side, word in enumerate(SIDES)
        ],
        "fallacy-oversight": [order(kind, 0, kind) for kind in [rng.python().choice(sorted(cues.fallacies))]],
        "refinement-aware": [order("polished", 0)],
    }.get(probe.name, [])
    return (
        []
        if has and probe.name == "fallacy-oversight"
        else [rewrite for rewrite in wanted if rewrite.condition not in has]
    )


@dataclass(frozen=True)
class WriterOptions:
    """Requests to writer and checker."""

    concurrency: int = 8
    """Requests under way at once."""
    temperature: float = 0.7
    """Of the writer."""


def write(
    items: Sequence[Item],
    probes: Sequence[Probe],
    cues: Cues,
    rng: Rng,
    *,
    llm: LLM | None = None,
    checker: LLM | None = None,
    options: WriterOptions | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Written:
    """The items with the rewrites that the probes want.

    Args:
        items: the items.
        probes: the biases; those that need no rewrites are passed over.
        cues: the stimuli, for rewrites by rule and for which kinds there are.
        rng: where choices are drawn.
        llm: the writer; None: rewrites by rule.
        checker: a model that checks whether the meaning is kept, beside the rules; None: the rules alone.
        options: how writer and checker are asked; None takes the defaults.
        on_progress: called with the number of orders that a round has settled.

    Raises:
        BudgetSpent: the budget ended; what was written is in the cache.
        LLMFailure: the writer answers nothing.
    """
    options = options or WriterOptions()
    orders = [
        order
        for item in items
        for probe in probes
        for order in orders_of(item, probe, cues, rng.child(probe.name, item.id))
    ]
    done = Written(list(items))
    accepted: dict[int, Rewrite] = {}
    reasons: dict[int, str] = {}
    waiting = list(range(len(orders)))
    for attempt in range(TRIES if llm is not None else 1):
        if not waiting:
            break
        batch = [orders[i] for i in waiting]
        texts = by_rule(batch, cues, rng) if llm is None else _by_model(batch, llm, attempt, options)
        missing = "no text between the tags" if llm is not None else "no rule writes it; name a writer"
        problems = [
            missing if text is None else problem_of(wanted.probe, wanted.before, text, wanted.dose)
            for wanted, text in zip(batch, texts, strict=True)
        ]
        if checker is not None:
            problems = _by_checker(batch, texts, problems, checker, options.concurrency)
        for i, text, problem in zip(list(waiting), texts, problems, strict=True):
            if problem is None and text is not None:
                writer = "rule" if llm is None else llm.name
                accepted[i] = Rewrite(
                    orders[i].probe,
                    orders[i].condition,
                    orders[i].response,
                    text,
                    orders[i].dose,
                    attempt + 1,
                    writer,
                )
            else:
                reasons[i] = problem or ""
                done.rejected[reasons[i].partition(":")[0]] += 1
        settled = len(waiting)
        waiting = [i for i in waiting if i not in accepted]
        if on_progress is not None:
            on_progress(settled - len(waiting))
    done.dropped = [
        {
            "item": orders[i].item.id,
            "probe": orders[i].probe,
            "condition": orders[i].condition,
            "reason": reasons[i],
        }
        for i in waiting
    ]
    done.written = len(accepted)
    by_item: dict[tuple[str, str], list[Rewrite]] = {}
    for i, rewrite in accepted.items():
        by_item.setdefault((orders[i].item.set, orders[i].item.id), []).append(rewrite)
    done.items = [item.adding(by_item.get((item.set, item.id), [])) for item in items]
    return done


def by_rule(orders: Sequence[Order], cues: Cues, rng: Rng) -> list[str | None]:
    """Rewrites without a language model: sentences of the cues before, in and behind the answer."""
    return [
        _ruled(order, cues, rng.child("rule", order.item.id, order.probe, order.condition))
        for order in orders
    ]


def _ruled(order: Order, cues: Cues, rng: Rng) -> str | None:
    draw, text = rng.python(), order.before.rstrip()
    if order.probe == "verbosity":
        missing = ((order.dose or 2.0) - 1) * len(text.split())
        added: list[str] = []
        sentences = draw.sample(cues.padding, len(cues.padding))
        while missing > sum(len(line.split()) for line in added):
            added.append(sentences[len(added) % len(sentences)])
        return "\n".join([text, *added])
    if order.probe == "authority":
        return f"{text}\n{cues.citations[order.kind].replace('{page}', str(draw.randint(11, 389)))}"
    if order.probe == "sentiment":
        before, after = cues.tones[order.kind]
        return f"{before}\n{text}\n{after}"
    if order.probe == "fallacy-oversight":
        lines = text.split("\n")
        at = draw.randint(min(1, len(lines) - 1), len(lines) - 1)  # never behind the result
        return "\n".join([*lines[:at], cues.fallacies[order.kind], *lines[at:]])
    return None


def request_of(order: Order, draw: int, temperature: float) -> Request:
    """The request to the writer."""
    template = room_file(__name__, f"prompts/{order.probe}.txt").read_text("utf-8")
    values = {
        "kind": order.kind,
        "ratio": f"{order.dose or 2:g}",
        "question": order.item.question,
        "text": order.before,
    }
    head, _, tail = template.partition("<text>\n{text}")
    prompt = head.format(**values) + f"<text>\n{order.before}" + tail  # an answer may hold braces
    longest = 200 + round(4 * (order.dose or 1.5) * len(order.before.split()))
    request: Request = ask(prompt, temperature=temperature, max_tokens=longest, draw=draw)
    return request


def _by_model(orders: Sequence[Order], llm: LLM, attempt: int, options: WriterOptions) -> list[str | None]:
    replies = complete(
        llm,
        [request_of(order, attempt, options.temperature) for order in orders],
        concurrency=options.concurrency,
    )
    _require(llm, replies)
    return [tagged(reply.text, "text") if reply.finish == "stop" else None for reply in replies]


def _by_checker(
    orders: Sequence[Order],
    texts: Sequence[str | None],
    problems: Sequence[str | None],
    checker: LLM,
    concurrency: int,
) -> list[str | None]:
    """The problems, with those that a second model finds in rewrites that had none."""
    checked = list(problems)
    to_check = [i for i, problem in enumerate(problems) if problem is None]
    template = room_file(__name__, "prompts/meaning.txt").read_text("utf-8")
    prompts = [
        template.replace("{before}", orders[i].before).replace("{after}", texts[i] or "") for i in to_check
    ]
    replies = complete(checker, [ask(prompt, max_tokens=8) for prompt in prompts], concurrency=concurrency)
    _require(checker, replies)
    for i, reply in zip(to_check, replies, strict=True):
        if reply.error is not None or reply.finish == "refusal":
            checked[i] = "no check: the checker did not answer"
        elif last_verdict(reply.text, ("SAME", "DIFFERENT")) != "SAME":
            checked[i] = "meaning: the checker says so"
    return checked


def _require(llm: LLM, replies: Sequence[Reply]) -> None:
    """Stop where a budget ended, or where no request was answered."""
    for reply in replies:
        if reply.finish == "budget":
            raise BudgetSpent(str(reply.error))
    if replies and all(reply.error is not None for reply in replies):
        raise LLMFailure(f"{llm.name} did not answer: {replies[0].error}")
