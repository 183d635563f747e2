"""Training: batches in, loss out, with exact resume. The loop knows accelerate and nothing of any method."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "TrainConfig": "config",
        "fit": "loop",
        "History": "loop",
        "Step": "loop",
        "TrainRun": "loop",
        "Example": "batches",
        "Batches": "batches",
        "GlobalBatch": "batches",
        "OwnBatches": "batches",
        "Evaluation": "evaluation",
        "held_out": "evaluation",
        "split": "evaluation",
        "reads_packed": "batches",
        "cached_step": "contrastive",
        "gather": "contrastive",
        "info_nce": "contrastive",
        "causal_loss": "losses",
        "token_cross_entropy": "losses",
        "clip_gradients": "optim",
        "decay_groups": "optim",
        "soft_cross_entropy": "losses",
        "lr_factor": "optim",
        "make_adamw": "optim",
    },
)
