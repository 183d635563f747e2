"""Metrics that more than one room reports: intervals from paired seeds, yes-or-no decisions, pass@k."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Confusion": "classify",
        "SupportScorer": "support",
        "Interval": "stats",
        "average_precision": "classify",
        "balanced_accuracy": "classify",
        "benjamini_hochberg": "stats",
        "best_f1": "classify",
        "cohen_kappa": "classify",
        "content": "support",
        "mcnemar": "stats",
        "mean_interval": "stats",
        "paired_difference": "stats",
        "pass_at_k": "code",
        "pass_at_k_per_task": "code",
        "pass_at_k_mean": "code",
        "rouge_tokens": "rouge",
        "token_support": "support",
        "ratio_intervals": "stats",
        "wilson": "stats",
    },
)
