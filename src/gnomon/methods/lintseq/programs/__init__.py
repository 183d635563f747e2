"""Programs in, and what in them belongs together."""
