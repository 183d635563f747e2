"""LLMs know more than they show (arXiv 2410.02707): errors detected from hidden states at the exact answer tokens."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Answer": "answers",
        "CLAIMS": "config",
        "Choice": "choice",
        "ErrorProbe": "probe",
        "ErrorTypeProbe": "error_types",
        "Extraction": "extraction",
        "Grid": "grid",
        "Question": "questions",
        "RepStore": "states",
        "Scorer": "scoring",
        "TaskStates": "transfer",
        "Transfer": "transfer",
        "baselines": "token_scores",
        "choose": "choice",
        "collect": "answers",
        "evaluate": "evaluation",
        "extract": "extraction",
        "generalise": "transfer",
        "heatmap": "grid",
        "label": "labelling",
        "merge": "answers",
        "p_true": "asking",
        "read_questions": "questions",
        "represent": "states",
        "taxonomy": "clusters",
        "type_scores": "error_types",
    },
)
