"""The finite chain of a model: its states, matrix, equilibrium, rates and loops."""
