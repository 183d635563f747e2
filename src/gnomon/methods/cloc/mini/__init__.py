"""The miniature: squares of two colours, and what each arm knows of them."""
