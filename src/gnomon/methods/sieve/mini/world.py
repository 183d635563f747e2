"""The miniature's corpus: documents that mix topics, a filter that is a rule about the mixture, a judge of known error rates.

The second corpus is real text that every machine has: the documentation in this Python installation. Its judge is a rule about
words of networks, which are deleted from the snippets so that the student has to learn from the words around them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomon.core.data.corpora import stdlib_documentation
from gnomon.core.rng import Rng
from gnomon.methods.sieve.choosing.snippets import Snippet, cut
from gnomon.methods.sieve.choosing.stream import same_words, split_by_document
from gnomon.methods.sieve.students.linear import WORD

LENGTH, VOCABULARY, TOPICS = 60, 2000, 40
"""Words a document, different words, topics."""

BLOCK = 2048
"""Documents made at once."""


@dataclass(frozen=True)
class Errors:
    """How often the judge errs."""

    false_negatives: float = 0.05
    """Chance that a snippet that should pass is failed."""
    false_positives: float = 0.002
    """Chance that a snippet that should fail is passed."""


@dataclass(frozen=True)
class Corpus:
    """Snippets in stream order and for testing, with what the judge says and what is true."""

    stream: list[Snippet]
    """What labels are chosen from."""
    test: list[Snippet]
    """What arms are compared on; no document is in both."""
    verdicts: dict[str, int]
    """Snippet -> the judge's verdict."""
    truth: dict[str, int]
    """Snippet -> the rule's."""

    def labels(self, snippets: Sequence[Snippet]) -> NDArray[np.int64]:
        """The judge's verdicts, [N]."""
        return np.array([self.verdicts[s.snippet_id] for s in snippets], dtype=np.int64)

    def true(self, snippets: Sequence[Snippet]) -> NDArray[np.int64]:
        """The rule's verdicts, [N]."""
        return np.array([self.truth[s.snippet_id] for s in snippets], dtype=np.int64)

    def pass_(self, number: int, *, skip: int = 0) -> Iterator[Snippet]:
        """The stream in the order of pass `number`; pass 0 is the order in which it was made."""
        order = np.arange(len(self.stream))
        if number:
            np.random.default_rng((number + 2**32, len(order))).shuffle(order)
        for i in order[skip:]:
            yield self.stream[i]


def topic_corpus(
    documents: int, tests: int, rng: Rng, errors: Errors | None = None, *, share: float | None = None
) -> Corpus:
    """Documents of 60 words from 40 topics, about 4% of which pass.

    A document passes when topics 0 and 1 make up more than 35% of its mixture and topic 2 less than 15%. Word distributions are
    Dirichlet(0.03) over 2,000 words, mixtures Dirichlet(0.06).

    Args:
        documents: how many, those for testing included.
        tests: how many are for testing.
        rng: where they are drawn.
        errors: of the judge.
        share: of the documents that are to pass; the 35% are then another number. None: the 35%.
    """
    errors = errors or Errors()
    draw = rng.child("topics").numpy()
    words = draw.dirichlet(np.full(VOCABULARY, 0.03), TOPICS)
    mixtures = draw.dirichlet(np.full(TOPICS, 0.06), documents)
    mass = np.where(mixtures[:, 2] < 0.15, mixtures[:, 0] + mixtures[:, 1], 0.0)
    passes = mass > (0.35 if share is None else np.quantile(mass, 1 - share))
    noise = rng.child("judge").numpy().random(documents)
    verdicts = np.where(passes, noise >= errors.false_negatives, noise < errors.false_positives)
    snippets = []
    for number, text in enumerate(_texts(words, mixtures, draw)):
        snippets.append(Snippet(f"d{number}:0-{len(text)}", f"d{number}", text, 0, len(text)))
    ids = [s.snippet_id for s in snippets]
    return Corpus(
        snippets[tests:],
        snippets[:tests],
        dict(zip(ids, verdicts.astype(int).tolist(), strict=True)),
        dict(zip(ids, passes.astype(int).tolist(), strict=True)),
    )


def _texts(
    words: NDArray[np.float64], mixtures: NDArray[np.float64], draw: np.random.Generator
) -> Iterator[str]:
    """One text per mixture: each word's topic from the mixture, the word from the topic."""
    names = np.array([f"w{i:04d}" for i in range(VOCABULARY)])
    cumulative = words.cumsum(axis=1)
    for start in range(0, len(mixtures), BLOCK):
        shares = mixtures[start : start + BLOCK].cumsum(axis=1)
        draws = draw.random((len(shares), LENGTH, 1)) * shares[:, None, -1:]
        topics = (draws > shares[:, None, :]).sum(axis=-1)
        within = draw.random(topics.shape)
        chosen = np.empty(topics.shape, dtype=np.int64)
        for topic in range(TOPICS):
            here = topics == topic
            chosen[here] = np.searchsorted(cumulative[topic], within[here] * cumulative[topic, -1])
        yield from (" ".join(row) for row in names[chosen])


# Real text.

TRIGGERS = re.compile(
    r"\b(sockets?|connect(?:s|ed|ing|ions?)?|servers?|clients?|hosts?|hostnames?|https?|urls?|ports?|networks?|networking|tcp|udp|ip|"
    r"ipv[46]|smtp|ftp|imap4?|pop3|nntp|telnet|proxy|proxies|ssl|tls|dns|headers?|addresses|address|requests?|internet)\b",
    re.IGNORECASE,
)
"""Words about networks."""

FEWEST = 3
"""Different trigger words that a snippet needs to pass."""

LONGEST, SHORTEST = 100, 20
"""Words of a snippet before the deletion, at most; words that must be left of it, at least."""


def docs_corpus(rng: Rng, test_share: float = 0.25) -> Corpus:
    """Pieces of the documentation, judged by the rule on the text before its words were deleted.

    A documentation string is in the stream or in the test as a whole, and so are strings that share a piece.
    """
    snippets: list[Snippet] = []
    verdicts: dict[str, int] = {}
    seen: set[int] = set()
    for document in stdlib_documentation():
        spans = [match.span() for match in WORD.finditer(document.text)]
        for start, end in cut(document.text, spans, LONGEST):
            piece = document.text[start:end]
            triggers = {word.lower() for word in TRIGGERS.findall(piece)}
            text = " ".join(TRIGGERS.sub(" ", piece).split())
            if len(text.split()) < SHORTEST or (key := same_words(text)) in seen:
                continue
            seen.add(key)
            snippet = Snippet(f"{document.name}:{start}-{end}", document.name, text, start, end)
            snippets.append(snippet)
            verdicts[snippet.snippet_id] = int(len(triggers) >= FEWEST)
    rng.child("order").python().shuffle(snippets)
    stream, test = split_by_document(snippets, test_share, rng.child("test"))
    return Corpus(stream, test, verdicts, verdicts)
