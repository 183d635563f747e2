"""Adaptive sampling (arXiv 2410.02725): a model says while it answers whether it would do better if it started over."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "CLAIMS": "config",
        "AdaptiveSampler": "policies.policies",
        "Answer": "building.training",
        "BestOfN": "policies.policies",
        "Carrier": "evaluator.carriers",
        "Drawing": "building.samples",
        "Labelling": "building.samples",
        "Learning": "building.training",
        "Pool": "policies.replay",
        "Pruning": "policies.watch",
        "PruningSampler": "policies.policies",
        "Restart": "evaluator.schedule",
        "SampleResult": "policies.policies",
        "Schedule": "evaluator.schedule",
        "SelfEvaluator": "evaluator.evaluator",
        "draw_samples": "building.samples",
        "fit_tau": "measures.quality",
        "gamma_for": "measures.tradeoff",
        "label": "building.labels",
        "labelled": "building.samples",
        "new_carrier": "evaluator.carriers",
        "open_evaluator": "evaluator.store",
        "save_evaluator": "evaluator.store",
        "sweep": "measures.tradeoff",
        "train_selfeval": "building.training",
        "verdict": "measures.tradeoff",
        "within_auc": "measures.quality",
    },
)
