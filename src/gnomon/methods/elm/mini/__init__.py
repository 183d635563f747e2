"""The miniature replication."""
