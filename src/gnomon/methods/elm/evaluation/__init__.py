"""What is left of a concept, and what was lost beside it."""
