"""Sampling from a model: batched decoding with a cache, seeded per row."""
