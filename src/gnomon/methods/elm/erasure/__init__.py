"""Erasing a concept: how, towards what, and by which losses."""
