"""SigExt (arXiv 2410.02741): a small extractor finds the phrases that your references care about, for the prompt of any LLM."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "ARMS": "baselines",
        "CLAIMS": "config",
        "Encoder": "keybert",
        "Phrase": "phrases",
        "Reading": "rows",
        "Row": "rows",
        "ScoredPhrase": "model",
        "Settings": "settings",
        "SigExtModel": "model",
        "Template": "prompting",
        "build_prompt": "prompting",
        "extract_phrases": "phrases",
        "label": "labels",
        "locate": "phrases",
        "matches": "labels",
        "measure": "ranks",
        "rank_phrases": "baselines",
        "read_rows": "rows",
        "select": "selection",
        "summarise": "summarising",
        "train_extractor": "training",
    },
)
