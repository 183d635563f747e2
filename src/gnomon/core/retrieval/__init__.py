"""Finding passages: cutting, encoding, searching by vectors and by words, fusing, reranking, and files of judged retrieval."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Cut": "passages",
        "Passage": "passages",
        "cut": "passages",
        "Hit": "hits",
        "Vectors": "stores.folder",
        "Index": "stores.contract",
        "build_index": "stores.references",
        "open_index": "stores.references",
        "Terms": "terms",
        "fuse": "fusion",
        "Search": "fusion",
        "read_run": "judged",
        "write_run": "judged",
        "read_qrels": "judged",
        "write_qrels": "judged",
        "read_beir": "judged",
        "write_beir": "judged",
    },
)
