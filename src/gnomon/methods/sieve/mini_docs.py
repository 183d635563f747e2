"""Real text that every machine has: the documentation inside this Python installation, and a rule whose words the student never sees.

The rule looks for words about networks. They are deleted from the snippet before anybody but the rule reads it, so that the student
has to learn from what stands around them.
"""

from __future__ import annotations

import re

from gnomon.core.data.corpora import stdlib_documentation
from gnomon.core.rng import Rng
from gnomon.methods.sieve.mini_world import Corpus
from gnomon.methods.sieve.snippets import Snippet
from gnomon.methods.sieve.stream import same_words, split_by_document

TRIGGERS = re.compile(
    r"\b(sockets?|connect(?:s|ed|ing|ions?)?|servers?|clients?|hosts?|hostnames?|https?|urls?|ports?|networks?|networking|tcp|udp|ip|"
    r"ipv[46]|smtp|ftp|imap4?|pop3|nntp|telnet|proxy|proxies|ssl|tls|dns|headers?|addresses|address|requests?|internet)\b",
    re.IGNORECASE,
)
"""Words about networks."""

FEWEST = 2
"""Different trigger words that a snippet needs to pass."""

SHORTEST = 12
"""Words that must be left of a snippet."""


def docs_corpus(rng: Rng, test_share: float = 0.25) -> Corpus:
    """Paragraphs of the documentation, judged by the rule on the text before its words were deleted.

    Modules (and reference topics) are in the stream or in the test, never in both.
    """
    snippets: list[Snippet] = []
    verdicts: dict[str, int] = {}
    seen: set[int] = set()
    for document in stdlib_documentation():
        for at, paragraph in enumerate(re.split(r"\n\s*\n", document.text)):
            found = {word.lower() for word in TRIGGERS.findall(paragraph)}
            text = " ".join(TRIGGERS.sub(" ", paragraph).split())
            if len(text.split()) < SHORTEST or (key := same_words(text)) in seen:
                continue
            seen.add(key)
            snippet = Snippet(f"{document.name}:{at}", document.group, text, 0, len(text))
            snippets.append(snippet)
            verdicts[snippet.snippet_id] = int(len(found) >= FEWEST)
    rng.child("order").python().shuffle(snippets)
    stream, test = split_by_document(snippets, test_share, rng.child("test"))
    return Corpus(stream, test, verdicts, verdicts)
