"""SigExt (arXiv 2410.02741): a small extractor finds the phrases that your references care about, for the prompt of any LLM."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "ARMS": "summaries.baselines",
        "CLAIMS": "config",
        "Encoder": "summaries.baselines",
        "Phrase": "phrases.phrases",
        "Reading": "phrases.data",
        "Row": "phrases.data",
        "ScoredPhrase": "extractor.model",
        "Settings": "extractor.model",
        "SigExtModel": "extractor.model",
        "Template": "summaries.prompts",
        "build_prompt": "summaries.prompts",
        "extract_phrases": "phrases.phrases",
        "label": "phrases.labels",
        "locate": "phrases.phrases",
        "matches": "phrases.labels",
        "measure": "phrases.selection",
        "rank_phrases": "summaries.baselines",
        "read_rows": "phrases.data",
        "select": "phrases.selection",
        "summarise": "summaries.summaries",
        "train_extractor": "extractor.training",
    },
)
