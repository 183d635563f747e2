"""Neutral residues and their rivals, trained on the same batches."""
