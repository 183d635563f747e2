"""Models that write edits: trained, sampled and evaluated."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "as_sampled": "evaluation",
        "canonical": "evaluation",
        "distinct_share": "evaluation",
        "edit_distance": "evaluation",
        "STOP": "sampling",
        "prompt_ids": "sampling",
        "Problem": "evaluation",
        "Examples": "training",
        "encode": "training",
        "matched": "training",
    },
)
