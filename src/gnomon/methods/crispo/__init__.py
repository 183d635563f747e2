"""CriSPO (arXiv 2410.02748): prompts optimised from multi-aspect critiques, and suffixes tuned for several metrics at once."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "CLAIMS": "config",
        "Candidate": "scoring.candidates",
        "Decoding": "scoring.calls",
        "Example": "examples.data",
        "History": "scoring.candidates",
        "LLMs": "scoring.calls",
        "Metric": "scoring.metrics",
        "Neighbours": "examples.neighbours",
        "Result": "search.task",
        "SearchConfig": "config",
        "Setup": "scoring.evaluation",
        "Task": "search.task",
        "compare": "scoring.evaluation",
        "evaluate": "scoring.evaluation",
        "fill": "examples.data",
        "mean_ranks": "scoring.candidates",
        "metric_of": "scoring.metrics",
        "open_metrics": "scoring.metrics",
        "optimize": "search.loop",
        "pareto_front": "scoring.candidates",
        "read_examples": "examples.data",
        "tune_suffix": "search.loop",
    },
)
