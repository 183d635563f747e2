"""Models behind HTTP: one client, chat and completions, the start-up check, and a server of our own."""
