"""How fast ROUGE, labels, phrases, pooling and choosing are, against the plain way of the libraries, with equal numbers.

    python benchmarks/sigext.py      writes docs/results/bench-sigext.json; with --only it runs and prints a part

One thread. Times are CPU seconds of the process, medians over rounds; ratios are what to look at.
"""

from __future__ import annotations

import re
import sys
import tempfile
from functools import cache
from random import Random
from typing import Any

import torch
from common.record import main
from common.timing import take_turns
from nltk.tokenize import TweetTokenizer
from rapidfuzz.fuzz import ratio
from rapidfuzz.process import cdist
from rouge_score.rouge_scorer import RougeScorer

from gnomon.core.data.corpora import stdlib_documentation
from gnomon.core.metrics import rouge as rouge_module
from gnomon.core.metrics.rouge import KINDS, rouge, rouge_tokens
from gnomon.core.models import train_bpe
from gnomon.core.rng import Rng, seeded
from gnomon.core.text import distinct, sentences, stopwords
from gnomon.core.text.language import stemmer
from gnomon.methods.sigext import Settings, SigExtModel, extract_phrases, label
from gnomon.methods.sigext.extractor import phrase_scores
from gnomon.methods.sigext.phrases import tokens

ROUNDS = 3


@cache
def documents(n: int = 200) -> list[tuple[str, str]]:
    """Bodies of documentation strings of at least 100 words, with their first paragraphs."""
    found = []
    for piece in stdlib_documentation():
        head, _, body = piece.text.partition("\n\n")
        if len(body.split()) >= 100 and len(head.split()) >= 5:
            found.append((" ".join(body.split()[:600]), head))
    return Random(0).sample(found, n)


def cold() -> None:
    """Forget every text and stem: a first look at new data is what is measured."""
    stemmer.cache_clear()
    rouge_tokens.cache_clear()
    rouge_module._ngrams.cache_clear()


def compared(ways: dict[str, Any], rounds: int = ROUNDS) -> dict[str, Any]:
    """CPU seconds and how many times faster the second way is."""
    seconds = take_turns(ways, rounds)
    plain, ours = seconds
    return {"cpu_seconds": seconds, "times_faster": seconds[plain] / seconds[ours]}


def rouges() -> dict[str, Any]:
    """All four kinds, stemmed; every summary against two references, as in a comparison of arms."""
    rows = documents()
    predictions = [body[:1200].replace(". ", ".\n") for body, _ in rows]
    references = [[body[300:1500].replace(". ", ".\n"), head] for body, head in rows]
    scorer = RougeScorer(KINDS, use_stemmer=True)

    def plain() -> list[Any]:
        return [
            scorer.score_multi(wanted, text) for text, wanted in zip(predictions, references, strict=True)
        ]

    def ours() -> dict[str, Any]:
        cold()
        return rouge(predictions, references)

    theirs, found = plain(), ours()
    for i, row in enumerate(theirs):
        for kind in KINDS:
            assert tuple(found[kind][i]) == tuple(row[kind]), (i, kind)
    return {"rows": len(rows), **compared({"rouge-score": plain, "gnomon": ours})}


def labels() -> dict[str, Any]:
    """Rule `code`: the released code's call per pair of phrases, against stems counted once."""
    pairs = [
        ([p.text for p in extract_phrases(body)], [p.text for p in extract_phrases(body[:2000])])
        for body, _ in documents()[:25]
    ]
    scorer = RougeScorer(["rouge1"], use_stemmer=True)

    def one(phrase: str, wanted: list[str]) -> bool:
        scores = [scorer.score(target, phrase)["rouge1"] for target in wanted]
        return bool(
            max(s.fmeasure for s in scores) >= 0.6
            or max(s.precision for s in scores) >= 0.8
            or max(s.recall for s in scores) >= 0.8
        )

    def plain() -> list[list[bool]]:
        return [[one(phrase, wanted) for phrase in phrases] for phrases, wanted in pairs]

    def ours() -> list[list[bool]]:
        cold()
        return [label(phrases, wanted) for phrases, wanted in pairs]

    assert plain() == ours()
    calls = sum(len(phrases) * len(wanted) for phrases, wanted in pairs)
    return {
        "documents": len(pairs),
        "pairs": calls,
        **compared({"a call per pair": plain, "gnomon": ours}, 1),
    }


def phrases() -> dict[str, Any]:
    """Candidates by NLTK's tweet tokenizer and a search from left to right, as released, at word boundaries.

    The two tokenizers differ on dotted names and the like; texts are made of the sentences that both cut into the same tokens.
    """
    cutter, stop = TweetTokenizer(), stopwords()
    texts, all_sentences = [], 0
    for body, _ in documents():
        parts = [body[start:end] for start, end in sentences(body)]
        all_sentences += len(parts)
        same = [part for part in parts if cutter.tokenize(part) == [token.text for token in tokens(part)]]
        texts.append(" ".join(part for part in same if sentences(part) == [(0, len(part))]))

    def plain() -> list[list[str]]:
        return [by_search(text, cutter, stop) for text in texts]

    def ours() -> list[list[str]]:
        return [[phrase.text for phrase in extract_phrases(text)] for text in texts]

    assert plain() == ours()
    return {
        "documents": len(texts),
        "tokens": sum(len(tokens(text)) for text in texts),
        "sentences_cut_alike": sum(len(sentences(text)) for text in texts) / all_sentences,
        **compared({"nltk and search": plain, "gnomon": ours}),
    }


def by_search(text: str, cutter: Any, stop: frozenset[str]) -> list[str]:
    """Phrases by tokens that know no place, which are then looked for."""
    runs: list[list[str]] = [[]]
    for start, end in sentences(text):
        for word in cutter.tokenize(text[start:end]):
            if any(map(str.isalnum, word)) and word.lower() not in stop:
                runs[-1].append(word)
            else:
                runs.append([])
        runs.append([])
    at, kept = 0, {}
    for run in filter(None, runs):
        pattern = r"\s*".join(map(re.escape, run))
        match = re.compile(rf"(?<!\w){pattern}(?!\w)").search(text, at)
        if match:
            at = match.end()
            kept.setdefault(" ".join(match[0].lower().split()), match[0])
    return list(kept.values())


def pooling() -> dict[str, Any]:
    """Scores of 400 phrases in each of 8 documents of 4,096 tokens: a loop over tokens, over phrases, and running sums."""
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(8, 4096, 2, generator=draw)
    spans = [[(i * 10, i * 10 + 1 + i % 6) for i in range(400)] for _ in range(8)]

    def plain() -> list[list[float]]:
        marks = logits.log_softmax(-1)[..., 1]
        return [
            [sum(float(marks[b, t]) for t in range(start, end)) / (end - start) for start, end in row]
            for b, row in enumerate(spans)
        ]

    def ours() -> list[list[float]]:
        return phrase_scores(logits, spans)

    gap = (torch.tensor(plain()) - torch.tensor(ours())).abs().max()
    assert gap < 1e-4, gap
    return {"phrases": sum(map(len, spans)), **compared({"a loop over tokens": plain, "gnomon": ours})}


def choosing() -> dict[str, Any]:
    """The best 20 of each document's phrases without near-duplicates: a full matrix of ratios, against what K needs of it."""
    ranked = [[phrase.text for phrase in extract_phrases(body)] for body, _ in documents()]

    def plain() -> list[list[int]]:
        found = []
        for texts in ranked:
            lowered = [text.lower() for text in texts]
            near = cdist(lowered, lowered, scorer=ratio, score_cutoff=70) >= 70
            kept: list[int] = []
            for i in range(len(texts)):
                other = next((j for j in kept if near[i, j]), None)
                if other is not None:
                    if len(lowered[other]) > len(lowered[i]):
                        continue
                    kept.remove(other)
                kept.append(i)
                if len(kept) == 20:
                    break
            found.append(kept)
        return found

    def ours() -> list[list[int]]:
        return [distinct(texts, 20) for texts in ranked]

    assert plain() == ours()
    return {"phrases": sum(map(len, ranked)), **compared({"cdist of all": plain, "gnomon": ours}, 5)}


def scoring() -> dict[str, Any]:
    """Documents of 1,000 tokens a second through an encoder of Longformer-base's size, one by one and in a batch, on one thread."""
    from transformers import LongformerConfig, LongformerForTokenClassification

    count, length = 4, 1000
    words = train_bpe([f"{head} {body}" for body, head in documents()], 2000)
    said = " ".join(body for body, _ in documents()).split()
    texts = []
    for i in range(count):
        ids = words(" ".join(said[i * length : (i + 1) * length]), add_special_tokens=False)["input_ids"]
        texts.append(words.decode(ids[: length - 10]))
    new_config: Any = LongformerConfig
    config = new_config(
        vocab_size=len(words), attention_window=512, max_position_embeddings=4098, pad_token_id=words.pad_token_id,
        bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id, sep_token_id=words.eos_token_id, num_labels=2,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, seeded(Rng(0)):
        model = LongformerForTokenClassification(config)
        model.save_pretrained(folder)
        words.save_pretrained(folder)
        extractor = SigExtModel.new(folder, Settings(max_length=4096), device="cpu")

    def one_by_one() -> list[Any]:
        return [extractor.score([text])[0] for text in texts]

    def together() -> list[Any]:
        return extractor.score(texts)

    found = compared({"one by one": one_by_one, "gnomon": together}, 1)
    return {
        "documents": count,
        "tokens": length,
        "parameters": sum(p.numel() for p in model.parameters()),
        **found,
        "documents_per_second": count / found["cpu_seconds"]["gnomon"],
    }


if __name__ == "__main__":
    sections = {
        "rouge": rouges,
        "labels": labels,
        "phrases": phrases,
        "pooling": pooling,
        "choosing": choosing,
        "scoring": scoring,
    }
    sys.exit(main("sigext", __doc__, sections))
