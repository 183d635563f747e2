"""A model with gated blocks beside its feed-forward networks: built, saved and loaded."""
