"""The miniature replication and the real run."""
