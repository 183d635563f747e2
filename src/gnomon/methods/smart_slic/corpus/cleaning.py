"""Text made ready for topics, step by step; each step has a name and can be left out. What is read and cited stays as it was."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Sequence

from gnomon.core.text.language import stopwords
from gnomon.errors import BadConfig, nearest

Step = Callable[[str], str]

_HYPHENS = re.compile("[\u2010-\u2015\u2212\ufe58\ufe63\uff0d\u00ad]")
_PHRASES = re.compile(
    r"(?:\u00a9|\(c\)|copyright)\s*(?:\(c\)|\u00a9)?\s*\d{4}[^.\n]*\.?|all rights reserved\.?|published by [^.\n]*\.?",
    re.IGNORECASE,
)
_EMAIL = re.compile(r"\S+@\S+\.\S+")
_TAG = re.compile(r"<[^<>]{1,100}>")
_ROMAN = re.compile(r"(?=.)m{0,3}(cm|cd|d?c{0,3})(xc|xl|l?x{0,3})(ix|iv|v?i{0,3})", re.IGNORECASE)


def _tokens(keep: Callable[[str], bool]) -> Step:
    return lambda text: " ".join(token for token in text.split() if keep(token))


STEPS: dict[str, Step] = {
    "hyphens": lambda text: _HYPHENS.sub("-", text),
    "phrases": lambda text: _PHRASES.sub(" ", text),
    "lower": str.lower,
    "formulas": _tokens(lambda token: not re.search(r"[=/\\~]|\+-", token)),
    "normalise": lambda text: unicodedata.normalize("NFKC", text),
    "newlines": lambda text: re.sub(r"[\r\n]+", " ", text),
    "emails": lambda text: _EMAIL.sub(" ", text),
    "tags": lambda text: _TAG.sub(" ", text),
    "brackets": lambda text: re.sub(r"[(\[{}\])]", " ", text),
    "special": lambda text: re.sub(r"[^\w\s-]", " ", text),
    "ascii": lambda text: unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode(),
    "stopwords": _tokens(lambda token: token.lower() not in stopwords("english")),
    "numbers": _tokens(lambda token: not token.replace("-", "").isdigit()),
    "short": _tokens(lambda token: len(token.strip("-")) >= 2),
    "alphanumeric": _tokens(lambda token: not (re.search(r"\d", token) and re.search(r"[^\W\d]", token))),
    "roman": _tokens(lambda token: not _ROMAN.fullmatch(token)),
    "spaces": lambda text: " ".join(text.split()),
}
"""Name -> step, in the order in which they are applied. Tags go before what would eat their ends."""


def clean(text: str, *, steps: Collection[str] | None = None, frozen: Sequence[str] = ()) -> str:
    """A text for counting words; the caller keeps the raw one.

    Args:
        text: raw.
        steps: names; None: all. They are applied in the order of `STEPS`.
        frozen: terms that no step alters or drops, such as "covid-19"; they are kept as they are written here.

    Raises:
        BadConfig: there is no such step.

    >>> clean("The GPT\u20104 model (see a@b.org) has 12 layers. \u00a9 2020 by ACM. All rights reserved.")
    'model see layers'
    >>> clean("We treat COVID-19 in mice", frozen=["covid-19"])
    'treat covid-19 mice'
    """
    if unknown := set(steps or ()) - set(STEPS):
        raise BadConfig(f'There is no step "{min(unknown)}". {nearest(min(unknown), STEPS)}')
    chosen = [step for name, step in STEPS.items() if steps is None or name in steps]
    if not frozen:
        return _applied(text, chosen)
    # The text between frozen terms is cleaned on its own, so that no step ever sees one of them.
    by_lower = {term.lower(): term for term in frozen}
    pattern = "|".join(re.escape(term) for term in sorted(by_lower, key=len, reverse=True))
    pieces = re.split(rf"(?<!\w)({pattern})(?!\w)", text, flags=re.IGNORECASE)
    kept = [by_lower[p.lower()] if i % 2 else _applied(p, chosen) for i, p in enumerate(pieces)]
    return " ".join(piece for piece in kept if piece)


def _applied(text: str, steps: Sequence[Step]) -> str:
    for step in steps:
        text = step(text)
    return text


def is_english(text: str) -> bool:
    """Whether a RAW text is English by its letters (9 in 10 are ASCII) and its stop words (2 words in 10)."""
    words = re.findall(r"\w+(?:'\w+)*", text.lower())
    if not words:
        return False
    ascii_share = sum(ord(letter) < 128 for letter in text) / len(text)
    stops = stopwords("english")
    return ascii_share >= 0.9 and sum(word in stops for word in words) / len(words) >= 0.2


def acronyms(text: str) -> dict[str, str]:
    """Acronym -> long form, where a text introduces it as "long form (LF)".

    >>> acronyms("We use a large language model (LLM) and the World Wide Web (WWW), see Table (ABC).")
    {'LLM': 'large language model', 'WWW': 'World Wide Web'}
    """
    pairs: dict[str, str] = {}
    for match in re.finditer(r"\(([A-Z][A-Za-z]{1,9})\)", text):
        short = match[1]
        letters = [letter.lower() for letter in short if letter.isupper()]
        before = re.findall(r"[\w-]+", text[: match.start()])[-len(letters) :]
        if len(letters) > 1 and [word[0].lower() for word in before] == letters:
            pairs.setdefault(short, " ".join(before))
    return pairs
