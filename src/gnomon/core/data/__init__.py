"""Data on its way in: corpora that every machine has."""
