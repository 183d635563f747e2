"""Hidden states of answers at named positions, and the model's own probabilities."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "NAMED": "positions",
        "NAMES": "positions",
        "places": "positions",
        "token_span": "positions",
        "folds": "states",
        "model_key": "states",
        "require_both": "states",
        "split": "states",
    },
)
