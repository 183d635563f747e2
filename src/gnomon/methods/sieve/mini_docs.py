"""Real text that every machine has: the documentation in this Python installation, and a rule whose words are hidden.

The rule looks for words about networks. They are deleted from the snippet before anybody but the rule reads it, so that the student
has to learn from what stands around them.
"""

from __future__ import annotations

import re

from gnomon.core.data.corpora import stdlib_documentation
from gnomon.core.rng import Rng
from gnomon.methods.sieve.mini_world import Corpus
from gnomon.methods.sieve.snippets import Snippet, cut
from gnomon.methods.sieve.stream import same_words, split_by_document
from gnomon.methods.sieve.students.linear import WORD

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
            found = {word.lower() for word in TRIGGERS.findall(piece)}
            text = " ".join(TRIGGERS.sub(" ", piece).split())
            if len(text.split()) < SHORTEST or (key := same_words(text)) in seen:
                continue
            seen.add(key)
            snippet = Snippet(f"{document.name}:{start}-{end}", document.name, text, start, end)
            snippets.append(snippet)
            verdicts[snippet.snippet_id] = int(len(found) >= FEWEST)
    rng.child("order").python().shuffle(snippets)
    stream, test = split_by_document(snippets, test_share, rng.child("test"))
    return Corpus(stream, test, verdicts, verdicts)
