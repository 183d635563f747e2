"""What models read: personas, texts to erase and to keep, questions, and batches of them."""
