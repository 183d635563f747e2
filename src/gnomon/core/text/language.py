"""What depends on the language of a text: its stop words and its stems.

Our own list of English stop words: what carries grammar and no topic. An apostrophe in a word is the straight one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache, lru_cache

from gnomon.errors import BadConfig, nearest

# Our own list of English stop words: what carries grammar and no topic. An apostrophe in a word is the straight one.

_WORDS = """
a an the
i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself she her hers herself
it its itself they them their theirs themselves one oneself someone somebody something anyone anybody anything everyone
everybody everything nobody nothing none who whom whose which what whoever whatever whichever
this that these those such same other another each every either neither both all any some few several many much more most
less least own enough
and or but nor so yet if unless although though because since while whereas whether than as
about above across after against along amid among around at before behind below beneath beside besides between beyond by
despite down during except for from in inside into like near of off on onto out outside over past per round through
throughout till to toward towards under until up upon via with within without
am is are was were be been being do does did done doing have has had having can could may might must shall should will
would ought let get gets got getting
not no yes only just very too also even still again ever never always often once then there here thus hence therefore
however meanwhile instead rather quite perhaps maybe almost already away back else far now soon later
when where why how wherever whenever
ok okay oh well please hi hey hello um uh yeah yep
etc eg ie vs
i'm i've i'd i'll you're you've you'd you'll he's he'd he'll she's she'd she'll it's it'd it'll we're we've we'd we'll
they're they've they'd they'll that's that'd that'll there's there'd there'll here's what's who's who'd who'll where's
when's why's how's let's
isn't aren't wasn't weren't don't doesn't didn't haven't hasn't hadn't can't cannot couldn't mayn't mightn't mustn't
shan't shouldn't won't wouldn't needn't oughtn't ain't y'all
s t d ll m re ve
"""
WORDS = frozenset(_WORDS.split())
"""Lower-case words."""


# What depends on the language of a text: its stop words and its stems.

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
