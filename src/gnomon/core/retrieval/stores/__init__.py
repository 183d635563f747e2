"""Where vectors lie: a folder, PostgreSQL and other stores, with the same verbs, the same order of hits and the same filters."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Index": "contract",
        "Vectors": "folder",
        "build_index": "references",
        "open_index": "references",
        "FullText": "postgres.text",
    },
)
