"""In-context learning of Markov chains: series with a known truth, counting baselines, and how a model compares."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "KINDS": "series",
        "Comparison": "evaluation",
        "Series": "series",
        "compare": "evaluation",
        "count": "evaluation",
        "evaluate": "evaluation",
        "fit_slope": "evaluation",
        "generate": "series",
        "predict": "reading",
        "sample": "series",
    },
)
