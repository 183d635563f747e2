"""Finding passages: cutting, encoding, searching by vectors and by words, fusing, reranking, answers, files of judged retrieval."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Cut": "passages",
        "Passage": "passages",
        "cut": "passages",
        "TextEncoder": "encoders",
        "encode_corpus": "encoders",
        "Hit": "hits",
        "Vectors": "stores.folder",
        "Index": "stores.contract",
        "build_index": "stores.references",
        "open_index": "stores.references",
        "Terms": "terms",
        "fuse": "fusion",
        "CrossEncoder": "rerankers",
        "Gain": "rerankers",
        "Search": "fusion",
        "Answer": "answers",
        "check_citations": "answers",
        "without_cited": "answers",
        "risk_coverage": "answers",
        "Confidence": "answers",
        "fit_confidence": "answers",
        "calibration_error": "answers",
        "read_run": "judged",
        "write_run": "judged",
        "read_qrels": "judged",
        "write_qrels": "judged",
        "read_beir": "judged",
        "write_beir": "judged",
    },
)
