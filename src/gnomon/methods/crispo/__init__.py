"""CriSPO (arXiv 2410.02748): prompts optimised from multi-aspect critiques, and suffixes tuned for several metrics at once."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "CLAIMS": "config",
        "Candidate": "candidates",
        "Example": "rows",
        "History": "candidates",
        "LLMs": "asking",
        "Metric": "scoring",
        "Neighbours": "neighbours",
        "Result": "task",
        "SearchConfig": "config",
        "Task": "task",
        "compare": "comparison",
        "evaluate": "comparison",
        "fill": "slots",
        "mean_ranks": "selection",
        "metric_of": "scoring",
        "open_metrics": "scoring",
        "optimize": "search",
        "pareto_front": "selection",
        "read_examples": "rows",
        "tune_suffix": "search",
    },
)
