"""The stream of snippets and which of them are worth a label."""
