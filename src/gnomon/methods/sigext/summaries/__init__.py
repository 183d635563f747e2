"""Summaries by a language model, with and without phrases, and what they are worth."""
