"""What models read: personas, texts to erase and to keep, questions, and batches of them."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "FLUENT": "batches",
        "Feed": "batches",
        "join": "batches",
        "read_by": "batches",
        "text_logits": "batches",
        "text_mask": "batches",
        "cut": "passages",
        "encode_fluent": "passages",
        "read_fluent": "passages",
        "read_passages": "passages",
        "concept_text": "personas",
        "prefix_ids": "personas",
        "start_ids": "personas",
        "text_ids": "personas",
        "continuations": "personas",
        "topics": "personas",
        "Accuracy": "questions",
        "Asked": "questions",
        "completions_of": "questions",
        "encode_questions": "questions",
        "option_scores": "questions",
        "prompt_of": "questions",
        "to_question": "questions",
    },
)
