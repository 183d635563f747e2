"""Noun phrases of a caption: tags of its words, the chunk grammar, and generic words of the web left out.

The tagger is light: closed classes by list, the rest by endings and by place. NLTK's is used where its data is installed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal

from gnomon.core.files import room_file

Tagged = list[tuple[str, str]]
Tagger = Callable[[Sequence[str]], Tagged]

GRAMMAR = re.compile(r"(?:DT )?(?:JJ\w? )*(?:NN\w* )+")
"""NP: {<DT>?<JJ.*>*<NN.*>+} over tags with a space behind each."""
MOST = 20
"""Phrases of a caption, the first."""

_CLOSED = {
    "DT": "a an the this that these those some any each every no another both",
    "IN": "of in on at with by for from to into onto over under near behind beside between among above below through across along "
          "around against inside outside while as next like than without within upon toward towards that",
    "CC": "and or but nor",
    "PRP": "he she it they we i you him her them us me his its their our your my himself herself itself who "
           "which what whose there here",
    "VB": "is are was were be been being am has have had do does did can could will would may might shall should must "
          "sits stands lies holds wears shows has looks plays runs walks rides eats drinks sit stand lie hold wear show look play "
          "run walk ride eat drink made taken seen standing sitting lying holding wearing showing looking playing running walking "
          "riding eating drinking flying hanging leaning facing covered filled surrounded topped parked",
    "RB": "not very too also just only quite so well together away out up down off again then now",
    "CD": "one two three four five six seven eight nine ten several many few dozen",
}  # fmt: skip
_ADJECTIVES = frozenset(
    """
    red green blue yellow orange purple pink brown black white grey gray golden silver beige dark light bright
    pale big small large little tiny huge tall short long wide narrow old young new clean dirty wet dry hot cold
    warm round square flat open closed full empty high low thick thin heavy soft hard wooden metal plastic striped
    spotted beautiful pretty cute happy sad calm busy quiet modern ancient fresh ripe raw cooked male female
    """.split()  # noqa: SIM905 - a list of words is easier to read as a text
)
_LEXICON = {word: tag for tag, words in _CLOSED.items() for word in words.split()}
_ENDINGS = (
    ("ly", "RB"), ("ous", "JJ"), ("ful", "JJ"), ("ive", "JJ"), ("able", "JJ"), ("ible", "JJ"), ("ish", "JJ"), ("less", "JJ"),
    ("ical", "JJ"), ("ed", "JJ"),
)  # fmt: skip


def words_of(text: str) -> list[str]:
    """Words and marks, lower case.

    >>> words_of("A dog, it's black-and-white.")
    ['a', 'dog', ',', "it's", 'black-and-white', '.']
    """
    return re.findall(r"[a-z0-9]+(?:[-'][a-z0-9]+)*|[^\w\s]", text.lower())


def light_tags(words: Sequence[str]) -> Tagged:
    """Penn tags by closed classes, endings and place.

    >>> light_tags(["a", "small", "dog", "sits", "on", "the", "wooden", "benches"])[1:4]
    [('small', 'JJ'), ('dog', 'NN'), ('sits', 'VB')]
    """
    tags: Tagged = []
    for i, word in enumerate(words):
        if not word[0].isalnum():
            tag = "."
        elif word[0].isdigit():
            tag = "CD"
        elif word in _LEXICON:
            tag = _LEXICON[word]
        elif word in _ADJECTIVES:
            # What stands last behind an article or adjective is a thing: "an orange", "a red square".
            following = words[i + 1] if i + 1 < len(words) else "."
            is_last = not following[0].isalpha() or following in _LEXICON
            tag = "NN" if is_last and tags and tags[-1][1] in ("DT", "JJ", "CD") else "JJ"
        else:
            tag = next(
                (tag for ending, tag in _ENDINGS if word.endswith(ending) and len(word) > len(ending) + 2),
                "NN",
            )
            if tag == "NN" and word.endswith("s") and not word.endswith("ss"):
                tag = "NNS"
        tags.append((word, tag))
    return tags


def nltk_tags(words: Sequence[str]) -> Tagged:
    """Tags by NLTK's perceptron.

    Raises:
        LookupError: its data is not installed.
    """
    import nltk

    return [(word, tag) for word, tag in nltk.pos_tag(list(words))]


@lru_cache(maxsize=1)
def tagger() -> tuple[Literal["nltk", "light"], Tagger]:
    """NLTK's tagger where its data is here, else the light one; and its name, for the record."""
    try:
        nltk_tags(["a", "dog"])
    except LookupError:
        return "light", light_tags
    return "nltk", nltk_tags


@lru_cache(maxsize=1)
def stop_words() -> frozenset[str]:
    """Generic words of web captions."""
    return frozenset(room_file("gnomon.methods.cloc", "prompts/stopwords.txt").read_text("utf-8").split())


def phrases(caption: str, *, most: int = MOST, tag: Tagger | None = None) -> list[str]:
    """The noun phrases of a caption, in its order, each once.

    Generic words are removed before the words are tagged; a leading article is left out, as a detector's queries are.

    Args:
        caption: any text.
        most: phrases at most.
        tag: of words; None: `tagger()`.

    Source: arXiv 2410.02746, section 3.2.

    >>> phrases("A photo of a small black dog on a wooden bench, and two red apples.", tag=light_tags)
    ['small black dog', 'wooden bench', 'red apples']
    """
    words = [word for word in words_of(caption) if word not in stop_words()]
    tags = (tag or tagger()[1])(words)
    line = "".join(f"{name} " for _, name in tags)
    results: list[str] = []
    for match in GRAMMAR.finditer(line):
        if match.start() and line[match.start() - 1] != " ":  # inside a tag
            continue
        first = line[: match.start()].count(" ")
        chunk = tags[first : first + match[0].count(" ")]
        text = " ".join(word for word, name in chunk if name != "DT")
        if text and text not in results:
            results.append(text)
    return results[:most]


def thinned(texts: Sequence[str], how: Literal["keep", "longest"]) -> list[str]:
    """Phrases of which none lies within another, where the longest alone shall stay.

    >>> thinned(["dog", "black dog", "bench"], "longest")
    ['black dog', 'bench']
    """
    if how == "keep":
        return list(texts)
    return [
        text for text in texts if not any(text != other and f" {text} " in f" {other} " for other in texts)
    ]
