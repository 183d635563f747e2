"""Captions, the objects they name, and how many of those are not there."""
