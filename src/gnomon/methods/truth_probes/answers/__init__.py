"""Questions, what a model answers, whether it is right, and which part is the answer."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "NO_ANSWER": "answers",
        "encode_prompt": "answers",
        "open_hub": "data",
        "parse_columns": "data",
        "drop_report": "extraction",
        "trim": "extraction",
        "label_by_text": "labels",
        "read_digit": "labels",
        "NLI": "tasks",
        "SENTIMENT": "tasks",
        "TASKS": "tasks",
        "labelled": "tasks",
        "task_of": "tasks",
    },
)
