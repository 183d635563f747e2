"""Long contexts packed for a language model, its answers with sources and doubt, and what they are measured by."""
