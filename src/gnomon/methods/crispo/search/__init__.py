"""New prompts: critiques, proposals, the loop and what it leaves behind."""
