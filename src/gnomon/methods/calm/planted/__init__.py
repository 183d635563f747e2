"""Judges whose biases are known, against which the estimates are checked."""
