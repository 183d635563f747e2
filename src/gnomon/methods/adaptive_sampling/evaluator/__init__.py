"""The question whether to start over: how it is put to a model, read from its logits, and kept beside its weights."""
