"""Candidate phrases, their labels, rows of documents, and the choice among scored phrases."""
