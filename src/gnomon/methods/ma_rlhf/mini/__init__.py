"""The miniature: a world of good words, real sentences, and a real story model."""
