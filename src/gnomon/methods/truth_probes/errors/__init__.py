"""Kinds of errors, and the choice among sampled answers."""
