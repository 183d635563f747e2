"""What a model is made of: its parts, its sites by name, and where image tokens lie."""
