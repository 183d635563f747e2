"""How good region embeddings are: recognition, retrieval and grounding, beside everything that tells honest from lucky."""
