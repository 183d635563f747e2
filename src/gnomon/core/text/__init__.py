"""Plain text: stop words, stems, sentences, tags, and telling near-duplicates apart. Nothing here downloads anything."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "stopwords": "language",
        "stopwords_name": "language",
        "stemmer": "language",
        "check_language": "language",
        "Span": "segments",
        "sentences": "segments",
        "distinct": "duplicates",
        "answered_number": "matching",
        "value_of": "matching",
        "find_tags": "tags",
        "pair_tags": "tags",
    },
)
