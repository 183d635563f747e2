"""Hidden states of answers at named positions, and the model's own probabilities."""
