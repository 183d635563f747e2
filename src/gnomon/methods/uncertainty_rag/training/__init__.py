"""Chunks, anchors and candidates, the training set that scores make of them, and the retriever that learns from it."""
