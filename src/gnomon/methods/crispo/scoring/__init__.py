"""Prompts measured: metrics, calls, candidates and their evaluation."""
