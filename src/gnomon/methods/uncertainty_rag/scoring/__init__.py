"""Scores of pairs of chunks by a language model: read, windowed, checked on the user's own corpus, kept in a table."""
