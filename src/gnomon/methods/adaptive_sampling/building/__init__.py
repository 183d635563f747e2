"""Labels from a model's own samples, and the training that teaches it to predict them."""
