"""Metrics that more than one room reports: intervals from paired seeds, pass@k."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Interval": "stats",
        "mean_interval": "stats",
        "paired_difference": "stats",
        "pass_at_k": "code",
        "pass_at_k_per_task": "code",
        "pass_at_k_mean": "code",
    },
)
