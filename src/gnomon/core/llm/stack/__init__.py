"""Wrappers around a language model: cache, tape, budget, meter, rate limits and retries."""
