"""Losses over images and regions, batches of both, and the training."""
