"""From labels to a calibrated filter, and its application, evaluation and cost."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "ApplyStep": "application",
        "outside_note": "application",
        "share_of": "application",
        "GRID": "calibration",
        "KEPT": "calibration",
        "StreamScores": "calibration",
        "on_scale_of": "calibration",
        "passing_curve": "calibration",
        "trimmed": "calibration",
        "Cost": "cost",
        "call_usd": "cost",
        "snippet_usd": "cost",
        "evaluate": "evaluation",
        "self_consistency": "evaluation",
        "read_card": "model",
        "base_rate": "state",
        "cross_scores": "state",
        "focal_alphas": "state",
    },
)
