"""The baselines, trained on the same batches."""
