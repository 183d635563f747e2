"""Programs as sequences of edits: drawn, written as diffs, audited and produced in bulk."""
