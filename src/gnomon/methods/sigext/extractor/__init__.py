"""The extractor: encoded documents, the model, its training and its use on rows."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "DocumentBatches": "batches",
        "grouped": "batches",
        "padded": "batches",
        "window_of": "batches",
        "DocumentEncoder": "encoding",
        "Encoded": "encoding",
        "longest_input": "encoding",
        "phrase_scores": "encoding",
        "weighted_loss": "training",
    },
)
