"""Questions, what a model answers, whether it is right, and which part is the answer."""
