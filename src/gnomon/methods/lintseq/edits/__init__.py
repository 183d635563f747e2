"""Programs as sequences of edits: drawn, written as diffs, audited and produced in bulk."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "summarise": "audit",
        "forward_diffs": "diffs",
        "line_sets_of": "diffs",
        "split_target": "diffs",
        "states_of": "diffs",
        "AuditStep": "production",
        "EditRecord": "production",
        "Fields": "production",
        "LintSeqStep": "production",
        "RandSeqStep": "production",
    },
)
