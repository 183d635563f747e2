"""Words erased from image tokens, and captions written anew."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "random_like": "erase",
        "word_vector": "erase",
        "Half": "sweep",
        "Target": "sweep",
        "choose": "sweep",
        "halves": "sweep",
        "outcome": "sweep",
        "sweep_halves": "sweep",
        "targets": "sweep",
        "try_setting": "sweep",
        "writer": "sweep",
    },
)
