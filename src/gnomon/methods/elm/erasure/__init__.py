"""Erasing a concept: how, towards what, and by which losses."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Guidance": "fluency",
        "Reweighting": "design",
        "BASELINES": "design",
        "layer_range": "design",
        "ErasureLoss": "eraser",
        "ScratchRun": "eraser",
        "attach": "eraser",
        "encode_all": "eraser",
        "frozen": "eraser",
        "ratio": "eraser",
        "Draft": "fluency",
        "draft": "fluency",
        "guided_scores": "fluency",
        "make_fluent": "fluency",
        "Target": "target",
        "eta_along": "target",
        "reweight": "target",
        "target_of": "target",
    },
)
