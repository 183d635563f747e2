"""Neutral residues (arXiv 2410.02744): teach a model a new domain by gated blocks that stay silent on the old one."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "CLAIMS": "config",
        "Block": "extension.blocks",
        "Design": "extension.design",
        "Extended": "extension.extension",
        "Mixture": "training.mixing",
        "Output": "extension.extension",
        "Point": "evaluation",
        "Study": "training.study",
        "activity": "evaluation",
        "drift": "evaluation",
        "extend": "extension.extension",
        "forgetting_at": "evaluation",
        "front": "evaluation",
        "hypervolume": "evaluation",
        "load_extension": "extension.store",
        "merge": "extension.store",
        "open_extended": "extension.store",
        "prepare": "training.arms",
        "save_extension": "extension.store",
        "train_arm": "training.arms",
    },
)
