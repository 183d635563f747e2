"""Students: light classifiers that learn the judge's verdicts."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Fitted": "base",
        "Span": "base",
        "Student": "base",
        "split_held_out": "base",
        "StudentConfig": "config",
        "HashedLinear": "linear",
        "solve": "linear",
        "focal_loss": "losses",
        "focal_parts": "losses",
        "HEAD": "networks",
        "T5EncoderClassifier": "networks",
        "load_classifier": "networks",
        "new_t5": "networks",
        "word_tokenizer": "networks",
        "count_ngrams": "ngrams",
        "check_student": "store",
        "open_student": "store",
        "CPU_BUDGET": "tokens",
        "Tokens": "tokens",
        "pass_logits": "tokens",
        "plan_batches": "tokens",
        "score_rows": "tokens",
        "corrupt": "training",
        "epoch_batches": "training",
        "find_sentinels": "training",
        "noise_mask": "training",
        "pretrain": "training",
        "TransformerStudent": "transformer",
    },
)
