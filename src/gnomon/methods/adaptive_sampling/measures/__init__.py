"""How good c is: within a prompt, as a probability, and against what the same tokens buy elsewhere."""
