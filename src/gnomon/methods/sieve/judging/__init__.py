"""Who says which snippets pass: filters in words, judges of every kind, their labels, and people as referees."""
