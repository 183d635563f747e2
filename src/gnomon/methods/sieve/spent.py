"""What a finished fit has measured of its own cost."""

from __future__ import annotations

from pathlib import Path

from gnomon.core import records
from gnomon.core.run import artifact, is_run_folder
from gnomon.errors import BadInput
from gnomon.methods.sieve.labels import Label
from gnomon.methods.sieve.state import RoundFolder


def measured(run: Path) -> dict[str, float]:
    """Labels, tokens per call, seconds of training, snippets scored per second, and snippets scored while choosing.

    Numbers that the fit could not measure, such as tokens of a judge that is no language model, are left out.

    Args:
        run: the run folder of a finished fit.

    Raises:
        BadInput: it is not one.
    """
    if not is_run_folder(run):
        raise BadInput(f"{run} is not the folder of a run. Name one that `gnomon sieve fit` has finished.")
    rows = list(records.read(artifact(run, "labels"), Label))
    rounds = RoundFolder(run / "rounds").load()
    found: dict[str, float] = {"labels": len(rows)}
    asked = [row for row in rows if row.tokens_in]
    if asked:
        found["tokens_in"] = sum(row.tokens_in for row in asked) / len(asked)
        found["tokens_out"] = sum(row.tokens_out for row in asked) / len(asked)
    found["training_s"] = sum(state.fitted.seconds for state in rounds if state.fitted)
    found["stream_scored"] = sum(state.read for state in rounds)
    scoring_s = sum(state.scoring_s for state in rounds)
    if scoring_s:
        found["snippets_per_s"] = found["stream_scored"] / scoring_s
    return found
