"""CLOC (arXiv 2410.02746): a CLIP or SigLIP encoder that also embeds any box of an image and finds any phrase in it."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "CLAIMS": "config",
        "ClocModel": "regions.model",
        "Labelled": "training.training",
        "Prompter": "regions.prompter",
        "RegionLoss": "training.options",
        "Shape": "training.options",
        "box_mean": "regions.pooling",
        "load_cloc": "regions.model",
        "roi_align": "regions.pooling",
        "train": "training.training",
    },
)
