"""What papers state, as a graph, and questions about it that a rule can plan: no language model is asked."""
