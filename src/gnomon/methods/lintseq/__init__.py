"""LintSeq (arXiv 2410.02749): programs as sequences of edits whose every state is free of linter errors."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "CLAIMS": "config",
        "DIFF_TOKEN": "edits.diffs",
        "Diagnostic": "linters",
        "EditPath": "edits.paths",
        "LinterBackend": "linters",
        "Pair": "models.training",
        "Program": "programs.program",
        "Prompt": "models.sampling",
        "Rejected": "programs.source",
        "ResolveResult": "edits.diffs",
        "Rules": "programs.program",
        "Sampled": "models.sampling",
        "audit_path": "edits.audit",
        "edit_pair": "models.training",
        "evaluate": "models.evaluation",
        "load_suite": "run",
        "program_pair": "models.training",
        "randseq": "edits.paths",
        "register_linter": "linters",
        "render_target": "edits.diffs",
        "resolve": "edits.diffs",
        "sample_edits": "edits.paths",
        "sample_local": "models.sampling",
        "sample_path": "edits.paths",
        "sample_served": "models.sampling",
        "search_paths": "edits.paths",
        "train_edit_lm": "models.training",
    },
)
