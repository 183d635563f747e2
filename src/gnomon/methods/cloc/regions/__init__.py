"""An image once encoded, any box or phrase of it: the towers, the Prompter, the rivals that pool tokens, files."""
