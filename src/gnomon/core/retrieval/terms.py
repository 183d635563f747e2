"""Search by words: BM25 over passages, with the stop words and stems of their language."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.core.files import write_json
from gnomon.core.retrieval.hits import Hit, ranked
from gnomon.core.retrieval.stores.generations import Generations
from gnomon.core.text.language import stemmer, stopwords
from gnomon.errors import BadInput

_WORD = re.compile(r"\w+(?:'\w+)*")
K1, B = 1.5, 0.75
"""BM25's saturation of a word's count, and how much a passage's length counts."""


def words_of(text: str, language: str = "english") -> list[str]:
    """The words of a text as they are indexed: lower case, without stop words, stemmed.

    >>> words_of("The meetings were long, Ann's too")
    ['meet', 'long', "ann'"]
    """
    stem, stops = stemmer(language), stopwords(language)
    return [stem(word) for word in _WORD.findall(text.lower().replace("\u2019", "'")) if word not in stops]


class Terms:
    """An index of words. bm25s has no way to add to one: `build` it anew, a million passages take a minute or two."""

    def __init__(self, at: Path):
        import bm25s

        about = json.loads((at / "index.json").read_text("utf-8"))
        self.language: str = about["language"]
        """Of the texts: decides stop words and stems."""
        self.ids: list[str] = about["ids"]
        """In ascending order."""
        self._bm25 = bm25s.BM25.load(str(at / "bm25"), load_vocab=True)

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def build(
        cls,
        folder: str | Path,
        texts: Mapping[str, str],
        *,
        language: str = "english",
        anew: bool = False,
    ) -> Terms:
        """A new index.

        Args:
            folder: where it is written.
            texts: id -> text.
            language: of the texts.
            anew: replace the index that is there.

        Raises:
            BadInput: no text has a word that is indexed.
            BadConfig: the folder holds something else or an index already, another process writes it, or there is no such language.
        """
        import bm25s

        ids = sorted(texts)
        words = [words_of(texts[name], language) for name in ids]
        if not any(words):
            raise BadInput(
                f"None of the {len(ids)} texts has a word to search for: they are empty, or hold stop words alone."
            )
        bm25 = bm25s.BM25(k1=K1, b=B)
        bm25.index(words, show_progress=False)
        generations = Generations(Path(folder))
        with generations.writing(anew=anew) as at:
            bm25.save(str(at / "bm25"), show_progress=False)
            write_json(at / "index.json", {"language": language, "ids": ids})
        return cls.open(folder)

    @classmethod
    def open(cls, folder: str | Path) -> Terms:
        """The index in a folder.

        Raises:
            BadInput: there is none.
        """
        return Generations(Path(folder)).read(cls)

    def scores(self, query: str) -> NDArray[np.float32] | None:
        """BM25 of every passage, in the order of `ids`; None where no word of the query is in the index."""
        indexed = [word for word in dict.fromkeys(words_of(query, self.language)) if word in self._vocabulary]
        if not indexed:
            return None
        scores: Any = self._bm25.get_scores(indexed)
        return np.asarray(scores, np.float32)

    def search(
        self, queries: Sequence[str], k: int, among: NDArray[np.int64] | None = None
    ) -> list[list[Hit]]:
        """The k passages with the highest BM25, for each query; only those that share a word with it, so there may be none.

        Args:
            queries: in words. A word that comes twice counts once.
            k: hits a query, at most.
            among: places in `ids` of the passages that may be returned; None: all.
        """
        hits: list[list[Hit]] = []
        for query in queries:
            scores = self.scores(query)
            if scores is None:
                hits.append([])
                continue
            places = np.flatnonzero(scores > 0)
            if among is not None:
                places = np.intersect1d(places, among)
            if len(places) > k:
                least = np.partition(scores[places], len(places) - k)[len(places) - k]
                places = places[scores[places] >= least]
            pairs = zip((self.ids[i] for i in places), scores[places].tolist(), strict=True)
            hits.append(ranked(pairs, k, source="terms"))
        return hits

    @property
    def _vocabulary(self) -> Mapping[str, int]:
        vocabulary: Mapping[str, int] = self._bm25.vocab_dict
        return vocabulary
