"""What is left of a concept, and what was lost beside it."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Relearning": "attacks",
        "SuffixSearch": "attacks",
        "suffix_attack": "attacks",
        "divergence": "measures",
        "probe_chance": "measures",
        "summary": "measures",
        "layer_states": "probes",
        "probe_accuracy": "probes",
        "distinct": "seamlessness",
        "judged_perplexity": "seamlessness",
        "naming": "seamlessness",
        "perplexity": "seamlessness",
        "repeated": "seamlessness",
        "write_answers": "seamlessness",
    },
)
