"""What depends on the language of a text: its stop words and its stems."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache, lru_cache

from gnomon.core.text.english import WORDS
from gnomon.errors import BadConfig, nearest

LANGUAGES = {
    "arabic": "ar",
    "danish": "da",
    "dutch": "nl",
    "english": "en",
    "finnish": "fi",
    "french": "fr",
    "german": "de",
    "hungarian": "hu",
    "italian": "it",
    "norwegian": "no",
    "portuguese": "pt",
    "romanian": "ro",
    "russian": "ru",
    "spanish": "es",
    "swedish": "sv",
}
"""Languages that have both a list of stop words and a stemmer, with their two-letter codes."""

UNSPACED = ("chinese", "japanese", "thai", "khmer", "lao", "burmese", "tibetan")
"""Languages written without spaces, where words cannot be cut out of a text by rule."""


def check_language(language: str) -> str:
    """`language`, when its texts can be cut into words, stemmed and freed of stop words here.

    Raises:
        BadConfig: it is written without spaces between words, or is not in `LANGUAGES`.
    """
    if language in UNSPACED:
        raise BadConfig(
            f'language "{language}" is written without spaces between words, and words are found by spaces here. '
            "Cut the texts into words first, and use the language of the nearest list."
        )
    if language not in LANGUAGES:
        raise BadConfig(f'There is no language "{language}" here. {nearest(language, LANGUAGES)}')
    return language


@cache
def stopwords(language: str = "english") -> frozenset[str]:
    """The lower-case stop words of `language`: our own list for English, those that YAKE brings for the others.

    Raises:
        BadConfig: as in `check_language`.
    """
    if check_language(language) == "english":
        return WORDS
    from importlib.resources import files

    text = (files("yake") / "core" / "StopwordsList" / f"stopwords_{LANGUAGES[language]}.txt").read_text(
        "utf-8"
    )
    return frozenset(word for line in text.splitlines() if (word := line.strip().lower()))


def stopwords_name(language: str = "english") -> str:
    """The name of the list with a hash of its words: what depends on the list records it.

    Raises:
        BadConfig: as in `check_language`.

    >>> stopwords_name("english").split("-")[:2]
    ['gnomon', 'english']
    """
    words = "\n".join(sorted(stopwords(language)))
    source = "gnomon" if language == "english" else "yake"
    return f"{source}-{language}-{hashlib.blake2b(words.encode(), digest_size=4).hexdigest()}"


@cache
def stemmer(language: str = "english") -> Callable[[str], str]:
    """A function from a lower-case word to its stem, which remembers what it has seen.

    English: Porter's as ROUGE applies it, words of up to three letters stay as they are. Others: Snowball's.

    Raises:
        BadConfig: as in `check_language`.

    >>> stemmer()("meetings"), stemmer()("was")
    ('meet', 'was')
    """
    if check_language(language) == "english":
        from nltk.stem.porter import PorterStemmer

        porter = PorterStemmer()
        return lru_cache(maxsize=500_000)(lambda word: porter.stem(word) if len(word) > 3 else word)
    from nltk.stem.snowball import SnowballStemmer

    return lru_cache(maxsize=500_000)(SnowballStemmer(language).stem)
