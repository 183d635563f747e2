"""SIEVE (arXiv 2410.02755): filter text like a strong LLM would, with a light student that learned its verdicts."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "CLAIMS": "config",
        "Card": "fitting.model",
        "Filter": "judging.filters",
        "FitSettings": "fitting.sieve",
        "Fitting": "fitting.fit",
        "JudgeClient": "judging.client",
        "Label": "judging.labels",
        "LabelStore": "judging.labels",
        "LocalJudge": "judging.judges",
        "Selection": "config",
        "Sieve": "fitting.sieve",
        "SieveModel": "fitting.model",
        "Snippet": "choosing.snippets",
        "SnippetStream": "choosing.stream",
        "Student": "students",
        "StudentConfig": "students",
        "Verdict": "judging.judges",
        "bernstein": "choosing.intervals",
        "calibrate": "fitting.calibration",
        "fit_stream": "fitting.sieve",
        "halving": "choosing.intervals",
        "load_filter": "judging.filters",
        "open_judge": "judging.references",
        "open_student": "students",
    },
)
