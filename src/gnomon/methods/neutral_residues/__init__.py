"""Neutral residues (arXiv 2410.02744): teach a model a new domain by gated blocks that stay silent on the old one."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "CLAIMS": "config",
        "Block": "blocks",
        "Design": "design",
        "Extended": "extension",
        "Mixture": "mixing",
        "Output": "extension",
        "Point": "tradeoff",
        "Study": "study",
        "activity": "evaluation",
        "drift": "evaluation",
        "extend": "extension",
        "forgetting_at": "tradeoff",
        "front": "tradeoff",
        "hypervolume": "tradeoff",
        "load_extension": "storage",
        "merge": "storage",
        "open_extended": "storage",
        "prepare": "arms",
        "save_extension": "storage",
        "train_arm": "arms",
    },
)
