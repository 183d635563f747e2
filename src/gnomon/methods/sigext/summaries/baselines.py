"""Baselines that rank phrases: the arms that the extractor is compared with. Only the oracle sees references."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnomon.core.models import load_model, load_tokenizer
from gnomon.core.rng import Rng
from gnomon.core.text import stemmer, stopwords
from gnomon.core.text.language import LANGUAGES
from gnomon.errors import BadConfig, BadInput, nearest
from gnomon.methods.sigext.extractor.encoding import longest_input
from gnomon.methods.sigext.phrases.data import Row
from gnomon.methods.sigext.phrases.phrases import Phrase, is_word, locate, runs, tokens
from gnomon.methods.sigext.phrases.selection import ranking

WINDOW = 3
"""TextRank: words that stand this near to each other are linked."""
DAMPING, ROUNDS = 0.85, 50
"""TextRank: damping factor, and steps of the power iteration."""


def rank_phrases(
    arm: str, rows: Sequence[Row], *, language: str = "english", rng: Rng | None = None
) -> list[list[Phrase]]:
    """The phrases of each document, the best first, by one of `ARMS`.

    Args:
        arm: its name.
        rows: documents with their candidates; TF-IDF counts words over all of them, the oracle reads their labels.
        language: of stop words and stems.
        rng: where `random` draws.

    Raises:
        BadConfig: there is no such arm.
        BadInput: the oracle finds no labels.
    """
    if arm == "random":
        return [_shuffled(row, rng or Rng(0)) for row in rows]
    if arm not in ARMS:
        raise BadConfig(f'There is no arm "{arm}". {nearest(arm, ("random", *ARMS))}')
    return ARMS[arm](rows, language)


def _shuffled(row: Row, rng: Rng) -> list[Phrase]:
    phrases = list(row.phrases)
    rng.child("random phrases", row.id).python().shuffle(phrases)
    return phrases


def _by_score(row: Row, scores: Sequence[float]) -> list[Phrase]:
    return [row.phrases[i] for i in ranking(scores)]


def _first(rows: Sequence[Row], _: str) -> list[list[Phrase]]:
    return [list(row.phrases) for row in rows]


def _oracle(rows: Sequence[Row], _: str) -> list[list[Phrase]]:
    if any(row.phrases and not row.labels for row in rows):
        raise BadInput("The oracle needs reference summaries: it shows the phrases that they say.")
    return [
        [p for p, is_positive in zip(row.phrases, row.labels, strict=True) if is_positive] for row in rows
    ]


def _content(text: str, language: str) -> list[str]:
    """The stems of a text's content words in order."""
    stop, stem = stopwords(language), stemmer(language)
    return [stem(token.text.lower()) for token in tokens(text) if is_word(token, stop)]


def _tfidf(rows: Sequence[Row], language: str) -> list[list[Phrase]]:
    """Mean TF-IDF of a phrase's words, as scikit-learn weighs them."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = [_content(row.document, language) for row in rows]
    if not any(words):
        return [list(row.phrases) for row in rows]
    weigh = TfidfVectorizer(analyzer=lambda document: document)
    table = weigh.fit_transform(words).tocsr()
    places = weigh.vocabulary_
    ranked = []
    for i, row in enumerate(rows):
        line = table[i]
        weights = dict(zip(line.indices.tolist(), line.data.tolist(), strict=True))
        scores = []
        for phrase in row.phrases:
            own = [weights.get(places.get(word, -1), 0.0) for word in _content(phrase.text, language)]
            scores.append(sum(own) / max(1, len(own)))
        ranked.append(_by_score(row, scores))
    return ranked


def _rake(rows: Sequence[Row], language: str) -> list[list[Phrase]]:
    """Sum over a phrase's words of degree / frequency.

    Source: Rose et al., "Automatic keyword extraction from individual documents" (2010).
    """
    ranked = []
    for row in rows:
        degree: Counter[str] = Counter()
        frequency: Counter[str] = Counter()
        for run in runs(row.document, stopwords(language)):
            words = [token.text.lower() for token in run]
            frequency.update(words)
            for word in words:
                degree[word] += len(words)
        scores = [
            sum(
                degree[w] / frequency[w]
                for w in (token.text.lower() for token in tokens(p.text))
                if frequency[w]
            )
            for p in row.phrases
        ]
        ranked.append(_by_score(row, scores))
    return ranked


def _textrank(rows: Sequence[Row], language: str) -> list[list[Phrase]]:
    """Sum of the ranks of a phrase's words in the graph of words that stand near each other.

    Source: Mihalcea and Tarau, "TextRank" (2004).
    """
    ranked = []
    for row in rows:
        words = _content(row.document, language)
        ranks = page_rank(words)
        scores = [sum(ranks.get(word, 0.0) for word in _content(p.text, language)) for p in row.phrases]
        ranked.append(_by_score(row, scores))
    return ranked


def page_rank(words: Sequence[str], window: int = WINDOW) -> dict[str, float]:
    """The PageRank of each word in the graph of words at most `window - 1` apart; they sum to 1.

    >>> ranks = page_rank(["a", "b", "a", "c"], window=2)
    >>> max(ranks, key=ranks.get), round(sum(ranks.values()), 6)
    ('a', 1.0)
    """
    links: defaultdict[tuple[str, str], float] = defaultdict(float)
    for i, word in enumerate(words):
        for other in words[i + 1 : i + window]:
            if word != other:
                links[word, other] += 1
                links[other, word] += 1
    names = list(dict.fromkeys(words))
    index = {name: i for i, name in enumerate(names)}
    matrix = np.zeros((len(names), len(names)))
    for (word, other), weight in links.items():
        matrix[index[other], index[word]] = weight
    sums = matrix.sum(axis=0)
    matrix[:, sums == 0] = 1 / max(1, len(names))  # a word without links leads anywhere
    matrix /= matrix.sum(axis=0, keepdims=True)
    ranks = np.full(len(names), 1 / max(1, len(names)))
    for _ in range(ROUNDS):
        ranks = (1 - DAMPING) / len(names) + DAMPING * matrix @ ranks if names else ranks
    return dict(zip(names, ranks.tolist(), strict=True))


def _yake(rows: Sequence[Row], language: str) -> list[list[Phrase]]:
    """YAKE's own keywords, at the places where they stand; those that do not stand in the text as written are left out."""
    import yake

    extractor = yake.KeywordExtractor(lan=LANGUAGES[language], n=3, top=100)
    ranked = []
    for row in rows:
        keywords = [text for text, _ in extractor.extract_keywords(row.document)]
        ranked.append([phrase for phrase in locate(keywords, row.document) if phrase is not None])
    return ranked


ARMS: Mapping[str, Callable[[Sequence[Row], str], list[list[Phrase]]]] = {
    "first": _first,
    "tf-idf": _tfidf,
    "textrank": _textrank,
    "rake": _rake,
    "yake": _yake,
    "oracle": _oracle,
}
"""Name -> how it ranks; `random` draws, and `keybert` needs a model of its own."""


# Similarity to the document, as KeyBERT ranks


class Encoder:
    """Texts as unit vectors: the mean of an encoder's last states over the tokens.

    Args:
        ref: a folder or hub id of any text encoder.
        device: `"auto"` takes a GPU when there is one.
        batch_tokens: tokens read at once.
    """

    def __init__(self, ref: str | Path, *, device: str = "auto", batch_tokens: int = 16_384):
        self.model: Any = load_model(ref, kind="encoder", device=device, asked_by="sigext keybert")
        self.tokenizer = load_tokenizer(ref)
        self.batch_tokens = batch_tokens
        self.longest = longest_input(self.model.config)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors, [N, D]; texts longer than the encoder reads are cut."""
        ids = [self.tokenizer(text, truncation=True, max_length=self.longest)["input_ids"] for text in texts]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        vectors: dict[int, Tensor] = {}
        start = 0
        while start < len(order):
            stop = start + 1
            while stop < len(order) and (stop - start + 1) * len(ids[order[stop]]) <= self.batch_tokens:
                stop += 1
            rows = order[start:stop]
            batch = self.tokenizer.pad({"input_ids": [ids[i] for i in rows]}, return_tensors="pt")
            batch = {name: batch[name].to(self.model.device) for name in ("input_ids", "attention_mask")}
            with torch.inference_mode():
                states = self.model(**batch).last_hidden_state.float()
            mask = batch["attention_mask"][..., None]
            means = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
            vectors |= dict(zip(rows, torch.nn.functional.normalize(means, dim=-1).cpu(), strict=True))
            start = stop
        return torch.stack([vectors[i] for i in range(len(ids))])

    def rank(self, rows: Sequence[Row]) -> list[list[Phrase]]:
        """The phrases of each document, the most alike to it first."""
        ranked: list[list[Phrase]] = []
        for row in rows:
            if not row.phrases:
                ranked.append([])
                continue
            vectors = self.encode([row.document, *(phrase.text for phrase in row.phrases)])
            likeness = (vectors[1:] @ vectors[0]).tolist()
            ranked.append([row.phrases[i] for i in ranking(likeness)])
        return ranked
