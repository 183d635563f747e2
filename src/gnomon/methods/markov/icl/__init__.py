"""In-context learning of Markov chains: series with a known truth, counting baselines, and how a model compares."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "BASELINES": "evaluation",
        "Comparison": "evaluation",
        "DISTANCES": "evaluation",
        "compare": "evaluation",
        "count": "evaluation",
        "evaluate": "evaluation",
        "fit_slope": "evaluation",
        "Prediction": "reading",
        "predict": "reading",
        "write_states": "reading",
        "KINDS": "series",
        "Series": "series",
        "drifting": "series",
        "generate": "series",
        "sample": "series",
        "in_bins": "systems",
        "law": "systems",
    },
)
