"""SIEVE (arXiv 2410.02755): filter text like a strong LLM would, with a light student that learned its verdicts."""
