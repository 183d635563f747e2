"""Objects that a caption mentions, by a closed vocabulary.

A vocabulary has one line per object: its name, then other words for it, with commas between; or it is the published CHAIR
vocabulary in JSON. A caption is taken apart into words, each is brought to its singular if that is a word of the vocabulary,
and names of several words ("hot dog") are merged before single words are looked up.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from gnomon.core.files import room_file
from gnomon.errors import BadInput

COCO = room_file(__name__, "templates/coco.txt")
"""The 80 names of COCO with everyday words for them."""

_log = logging.getLogger(__name__)

_WORD = re.compile(r"[^\W_]+(?:-[^\W_]+)*")
_NAME = re.compile(r"[^\W_]+(?:(?:[ '\u2019/&-]+|\. ?)[^\W_]+)*")
_LONGEST_NAME = 5
"""Words of a name, at most: a longer entry is a sentence, and the file no list of names."""
_ANIMALS = ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe")
_YOUNG_OR_OLD = ("baby", "adult")  # persons, unless an animal follows
_NOTHING = ""
_PHRASES = {
    ("bow", "tie"): "tie",
    ("passenger", "jet"): "jet",
    ("passenger", "train"): "train",
    ("toilet", "seat"): "toilet",
    ("train", "track"): _NOTHING,
    **{(age, kind): _NOTHING for age in _YOUNG_OR_OLD for kind in ("animal", "cub")},
}
_IRREGULAR = {"mice": "mouse", "geese": "goose", "children": "child", "people": "person", "oxen": "ox"}
_ENDINGS = (("men", "man"), ("ies", "y"), ("ves", "f"), ("ves", "fe"), ("es", ""), ("s", ""))


@dataclass(frozen=True)
class Mention:
    """A place in a caption that names an object."""

    object: str
    """The object's name in the vocabulary."""
    start: int
    """First character."""
    end: int
    """First character behind it."""


@dataclass(frozen=True)
class Vocabulary:
    """Objects and the words for them."""

    words: Mapping[str, str]
    """Every word or phrase, in lower case -> the object it names."""
    phrases: Mapping[str, str] = field(default_factory=dict)
    """Phrases -> the word that they stand for, in lower case; one that is in no line of the vocabulary names nothing."""

    @classmethod
    def of(cls, lines: Iterable[Sequence[str]], where: str = "vocabulary") -> Vocabulary:
        """The vocabulary of these lines, each an object's name and other words for it.

        Raises:
            BadInput: a word stands for two objects, or there is no word at all.

        >>> Vocabulary.of([["cat", "kitten"], ["hot dog"]]).objects("Two kittens beside a hot dog.")
        ['cat', 'hot dog']
        """
        words: dict[str, str] = {}
        for number, line in enumerate(lines, 1):
            spoken = [" ".join(_WORD.findall(word.lower())) for word in line]
            for word in filter(None, spoken):
                if words.setdefault(word, spoken[0]) != spoken[0]:
                    raise BadInput(
                        f'{where}, line {number}: "{word}" stands for {words[word]} already. '
                        "Every word names one object."
                    )
        if not words:
            raise BadInput(
                f"{where} names no object. Write one line per object, with commas between its words."
            )
        return cls(words)

    @classmethod
    def read(cls, path: Path | None = None) -> Vocabulary:
        """The vocabulary in a file; the one of COCO without a path.

        Args:
            path: text with one line per object; a JSON object `{name: [other words]}`; or the published CHAIR vocabulary,
                `{"synonyms": {name: [words]}, "double_words": {phrase: word}}`.

        Raises:
            BadInput: the file cannot be read or is none of these, or as in `of`.
        """
        path = path or COCO
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{path}: cannot be read as a list of words ({error}).") from None
        if text.lstrip()[:1] in ("{", "["):
            return cls._of_json(text, str(path))
        lines = [line.split(",") for line in text.splitlines()]
        for number, line in enumerate(lines, 1):
            for word in line:
                _check_name(word, f"{path}, line {number}")
        return cls.of(lines, str(path))

    @classmethod
    def _of_json(cls, text: str, where: str) -> Vocabulary:
        try:
            content = json.loads(text)
        except ValueError as error:
            raise BadInput(f"{where}: cannot be read as JSON ({error}). {_FORMATS}") from None
        is_published = isinstance(content, dict) and isinstance(content.get("synonyms"), dict)
        if is_published and (odd := content.keys() - {"synonyms", "double_words"}):
            raise BadInput(f'{where}: "{min(odd)}" is no part of a vocabulary. {_FORMATS}')
        words = content["synonyms"] if is_published else content
        phrases = content.get("double_words", {}) if is_published else {}
        if not isinstance(words, dict) or not all(
            isinstance(row, list) and all(isinstance(word, str) for word in row) for row in words.values()
        ):
            raise BadInput(f"{where}: is no object of lists of words. {_FORMATS}")
        if not isinstance(phrases, dict) or not all(isinstance(word, str) for word in phrases.values()):
            raise BadInput(f'{where}: "double_words" must be an object {{phrase: word}}. {_FORMATS}')
        # The published lists hold an empty entry, and words that begin with a space: in the code that goes with them these
        # never match, since words of captions have no spaces.
        rows = [[name, *(word for word in row if word == word.lstrip())] for name, row in words.items()]
        ignored = sorted(
            word for row in words.values() for word in row if word.strip() and word != word.lstrip()
        )
        if ignored:
            _log.info("%s: words that begin with a space are left out: %s", where, ", ".join(ignored))
        for word in (*(word for row in rows for word in row), *phrases, *phrases.values()):
            _check_name(word, where)
        merged = {phrase.lower(): word.lower() for phrase, word in phrases.items()}
        return replace(cls.of(rows, where), phrases=merged)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The objects, in the order of the vocabulary."""
        return tuple(dict.fromkeys(self.words.values()))

    def name(self, word: str) -> str | None:
        """The object that a word or phrase stands for, in the singular or plural; None for a word that names none."""
        parts = [self._singular(part) for part in _WORD.findall(word.lower())]
        return self.words.get(" ".join(parts))

    def objects(self, caption: str) -> list[str]:
        """Objects that a caption mentions, in its order, repeated as it repeats them."""
        return [mention.object for mention in self.mentions(caption)]

    def mentions(self, caption: str) -> list[Mention]:
        """Mentions of objects in a caption, in its order."""
        mentions = list(self._mentions(caption))
        seats = [caption[m.start : m.end].lower() in ("seat", "seats") for m in mentions]
        if any(m.object == "toilet" for m in mentions):  # then its seat is no chair
            mentions = [m for m, is_seat in zip(mentions, seats, strict=True) if not is_seat]
        return mentions

    def _mentions(self, caption: str) -> Iterator[Mention]:
        matches = list(_WORD.finditer(caption))
        words = [self._singular(match[0].lower()) for match in matches]
        at = 0
        while at < len(words):
            size, word = self._longest(words, at)
            if (name := self.words.get(word)) is not None:
                yield Mention(name, matches[at].start(), matches[at + size - 1].end())
            at += size

    def _longest(self, words: Sequence[str], at: int) -> tuple[int, str]:
        """The longest phrase that begins at a word: how many words it has, and what it stands for."""
        for size in range(min(self._longest_phrase, len(words) - at), 1, -1):
            phrase = tuple(words[at : at + size])
            if phrase in self._phrases:
                return size, self._phrases[phrase]
        return 1, words[at]

    @cached_property
    def _phrases(self) -> dict[tuple[str, ...], str]:
        """Phrases that are merged before single words are looked up."""
        animals = [word for word, name in self.words.items() if name in _ANIMALS]
        young = {(age, *word.split()): word for age in _YOUNG_OR_OLD for word in animals}
        own = {tuple(word.split()): word for word in self.words if " " in word}
        rules = {phrase: word for phrase, word in _PHRASES.items() if word in self.words or word == _NOTHING}
        merged = {tuple(_WORD.findall(phrase)): word for phrase, word in self.phrases.items()}
        return young | rules | merged | own

    @cached_property
    def _longest_phrase(self) -> int:
        return max(map(len, self._phrases))

    @cached_property
    def _known(self) -> set[str]:
        phrases = {part for phrase in self._phrases for part in phrase}
        return {part for word in self.words for part in word.split()} | phrases

    def _singular(self, word: str) -> str:
        """A word's singular if the vocabulary has that and not the word itself."""
        if word in self._known:
            return word
        candidates = [_IRREGULAR.get(word, "")]
        candidates += [word.removesuffix(end) + new for end, new in _ENDINGS if word.endswith(end)]
        return next((candidate for candidate in candidates if candidate in self._known), word)


_FORMATS = (
    "Write one line per object, its name first and commas between its words, or JSON {name: [other words]}."
)


def _check_name(word: str, where: str) -> None:
    """Refuse what is no name of an object: a file of another kind would be read as words that no caption has.

    Raises:
        BadInput: it has signs that names do not have, no letter, or is a sentence.
    """
    name = word.strip()
    is_name = _NAME.fullmatch(name) and any(sign.isalpha() for sign in name)
    if name and not (is_name and len(name.split()) <= _LONGEST_NAME):
        raise BadInput(f'{where}: "{name[:60]}" is no name of an object. {_FORMATS}')
