"""LintSeq (arXiv 2410.02749): programs as sequences of edits whose every state is free of linter errors."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "CLAIMS": "config",
        "DIFF_TOKEN": "diffs",
        "Diagnostic": "linters",
        "EditPath": "edits",
        "LinterBackend": "linters",
        "Pair": "training",
        "Program": "program",
        "Prompt": "sampling",
        "Rejected": "source",
        "ResolveResult": "diffs",
        "Sampled": "sampling",
        "audit_path": "audit",
        "edit_pair": "training",
        "evaluate": "evaluation",
        "load_suite": "suites",
        "program_pair": "training",
        "randseq": "random_edits",
        "register_linter": "linters",
        "render_target": "diffs",
        "resolve": "diffs",
        "sample_edits": "edits",
        "sample_local": "sampling",
        "sample_path": "edits",
        "sample_served": "sampling",
        "search_paths": "search",
        "train_edit_lm": "training",
    },
)
