"""Stimuli: items, the probes that change them, cues and checked rewrites."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "is_explicit": "data",
        "Cues": "items",
        "length_ratio": "items",
        "TRIES": "rewrites",
        "cites": "rewrites",
        "kept_share": "rewrites",
        "problem_of": "rewrites",
    },
)
