"""The pages of the verbs."""
