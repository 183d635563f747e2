"""SIEVE (arXiv 2410.02755): filter text like a strong LLM would, with a light student that learned its verdicts."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "CLAIMS": "config",
        "Card": "card",
        "Filter": "filter_files",
        "Fitting": "fitting",
        "JudgeClient": "judge_client",
        "Label": "labels",
        "LabelStore": "labels",
        "LocalJudge": "judges",
        "Selection": "config",
        "Sieve": "sieve",
        "SieveModel": "model",
        "Snippet": "snippets",
        "SnippetStream": "stream",
        "Student": "students",
        "StudentConfig": "students",
        "Verdict": "judges",
        "bernstein": "intervals",
        "calibrate": "calibration",
        "fit_stream": "sieve",
        "halving": "intervals",
        "load_filter": "filter_files",
        "open_judge": "judges",
        "open_student": "students",
    },
)
