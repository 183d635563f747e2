"""What prompts work on: rows, slots, key phrases and nearest neighbours."""
