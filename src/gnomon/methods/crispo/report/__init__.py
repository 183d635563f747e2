"""The pages of the verbs."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "calls_to": "pages",
        "mean_distance": "pages",
        "search": "pages",
        "search_figures": "pages",
        "layout": "tree",
        "lineage": "tree",
        "word_diff": "tree",
    },
)
