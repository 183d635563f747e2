"""Programs read, normalised, and laid out in lines that belong together."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "SourceProgram": "data",
        "choose": "data",
        "read_programs": "data",
        "candidates": "layout",
        "python_layout": "layout",
        "normalise": "source",
        "split_lines": "source",
    },
)
