"""The miniature: a world of good words, and real sentences."""
