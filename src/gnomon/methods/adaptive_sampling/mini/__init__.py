"""The miniature: a model that chooses a method and carries it out, and a task in which it cannot see its own slips."""
