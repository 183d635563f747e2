"""LLMs know more than they show (arXiv 2410.02707): errors detected from hidden states at the exact answer tokens."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Answer": "answers.answers",
        "Answering": "answers.answers",
        "CLAIMS": "config",
        "Capture": "states.states",
        "Choice": "errors.choice",
        "ErrorProbe": "probes.probe",
        "ErrorTypeProbe": "errors.types",
        "Extraction": "answers.extraction",
        "FitOptions": "probes.probe",
        "Grid": "probes.grid",
        "Question": "answers.data",
        "RepStore": "states.states",
        "Scorer": "probes.application",
        "TaskStates": "probes.grid",
        "Transfer": "probes.grid",
        "baselines": "states.positions",
        "choose": "errors.choice",
        "collect": "answers.answers",
        "evaluate": "probes.evaluation",
        "extract": "answers.extraction",
        "generalise": "probes.grid",
        "heatmap": "probes.grid",
        "label": "answers.labels",
        "merge": "answers.answers",
        "p_true": "probes.evaluation",
        "read_questions": "answers.data",
        "represent": "states.states",
        "taxonomy": "errors.clusters",
        "type_scores": "errors.types",
    },
)
