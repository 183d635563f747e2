"""The miniature: a made-up field, and every system that is asked about it."""
