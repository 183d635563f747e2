"""Fixtures of this room's tests."""

from fixtures_truth_probes import truth_handle, truth_model, truth_questions

__all__ = ["truth_handle", "truth_model", "truth_questions"]
