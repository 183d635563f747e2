"""Reports: one self-contained HTML page per run, and an index page over many runs."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {"Page": "page", "RunCard": "index", "index_runs": "index", "write_index": "index"},
)
