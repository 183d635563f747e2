"""Candidate phrases: runs of content words between stop words and punctuation, each with its exact place in the text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from gnomon.core.text import sentences, stopwords

# Links and addresses, handles and hash tags, abbreviations with dots, numbers with their separators, words with inner hyphens and
# apostrophes, and any other character alone.
_TOKEN = re.compile(
    r"""(?:https?://|www\.)[^\s<>"']+[^\s<>"'.,;:!?)\]]"""
    r"|[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
    r"|[@\#][\w_]+(?:['\u2019-]\w+)*"
    r"|(?:[^\W\d_]\.){2,}"
    r"|\d+(?:[.,:/-]\d+)*[^\W\d_]*"
    r"|\w+(?:[-'\u2019]\w+)*"
    r"|[^\w\s]"
)
_MARKER = re.compile(r"@x([a-z]+)\d*")
_FOLDED = re.compile(r"@(?:cite|math|ref|eq|eqn|fig|tab|sec)")
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Phrase:
    """A piece of a document: `document[start:end] == text`."""

    text: str
    """As it stands in the document."""
    start: int
    """First character."""
    end: int
    """Behind the last character."""

    @property
    def key(self) -> str:
        """What two spellings of a phrase share: lower case, single spaces.

        >>> Phrase("New\\n  York", 0, 10).key
        'new york'
        """
        return " ".join(self.text.lower().split())


def tokens(text: str) -> list[Phrase]:
    """The words, numbers and marks of a text, as a reader of posts and chats would cut it; case and spelling are kept.

    >>> [token.text for token in tokens("Don't email a.b@c.org: U.S. re-opens 1,200 #parks!")]
    ["Don't", 'email', 'a.b@c.org', ':', 'U.S.', 're-opens', '1,200', '#parks', '!']
    """
    return [Phrase(match[0], *match.span()) for match in _TOKEN.finditer(text)]


def extract_phrases(
    text: str, *, stop: frozenset[str] | None = None, language: str = "english", released_search: bool = False
) -> list[Phrase]:
    """The candidate phrases of a text in reading order: the longest runs of words without a stop word or mark between them.

    Phrases end at the end of a sentence. Of phrases that differ only in case and white space the first is a candidate.

    Args:
        text: any text.
        stop: stop words in lower case; None: the list of `language`.
        language: for the list.
        released_search: find each phrase as the released code does: the first place behind the last phrase where its words
            stand with any or no white space between them, inside longer words too. For comparison only.

    Raises:
        BadConfig: as in `gnomon.core.text.check_language`.

    >>> text = "The new transit plan costs 40 million, and the New Transit Plan is late."
    >>> [(p.text, p.start) for p in extract_phrases(text)]
    [('new transit plan costs 40 million', 4), ('New Transit Plan', 47), ('late', 67)]
    """
    stop = stopwords(language) if stop is None else stop
    candidates: dict[str, Phrase] = {}
    at = 0
    for run in runs(text, stop):
        start, end = run[0].start, run[-1].end
        if released_search:
            pattern = r"\s*".join(re.escape(word.text) for word in run)
            match = re.compile(pattern).search(text, at)
            if match is None:
                continue
            start, end = match.span()
            at = end
        phrase = Phrase(text[start:end], start, end)
        candidates.setdefault(phrase.key, phrase)
    return list(candidates.values())


def locate(phrases: Sequence[str], text: str) -> list[Phrase | None]:
    """The first place of each phrase in a text, in any case, at word boundaries, with any white space between its words.

    Args:
        phrases: texts that somebody else found, in any order.
        text: where to look.

    Returns:
        One place per phrase; None where it does not stand in the text, [N].

    >>> locate(["art", "Party"], "party  art")
    [Phrase(text='art', start=7, end=10), Phrase(text='party', start=0, end=5)]
    """
    places: list[Phrase | None] = []
    for phrase in phrases:
        pattern = r"\s+".join(map(re.escape, phrase.split()))
        match = re.search(rf"(?<!\w){pattern}(?!\w)", text, re.IGNORECASE) if pattern else None
        places.append(Phrase(match[0], *match.span()) if match else None)
    return places


def clean_scientific(text: str) -> str:
    """Scientific text with white space collapsed and numbered markers folded; the phrases' places are those in the result.

    >>> clean_scientific("as shown @xcite12  and\\n@xmath3")
    'as shown @cite and @math'
    """
    return _SPACE.sub(" ", _MARKER.sub(r"@\1", text)).strip()


def cut(text: str, n: int) -> str:
    """The beginning of a text of at most `n` tokens as `tokens` counts them.

    >>> cut("One, two, three", 3)
    'One, two'
    """
    for number, match in enumerate(_TOKEN.finditer(text), 1):
        if number == n:
            return text[: match.end()]
    return text


def is_word(token: Phrase, stop: frozenset[str]) -> bool:
    """Whether a token carries content: it has a letter or a digit and is no stop word."""
    word = token.text.lower().replace("\u2019", "'")
    return any(map(str.isalnum, word)) and word not in stop and not _FOLDED.fullmatch(word)


def runs(text: str, stop: frozenset[str]) -> Iterator[list[Phrase]]:
    """The runs of content words in a text, in order: what stands next to each other in one sentence."""
    words, at = tokens(text), 0
    for start, end in sentences(text):
        inside = []
        while at < len(words) and words[at].start < end:
            if words[at].start >= start:
                inside.append(words[at])
            at += 1
        for wanted, run in groupby(inside, key=lambda token: is_word(token, stop)):
            if wanted:
                yield list(run)
