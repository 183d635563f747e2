"""A corpus of papers: read, expanded along citations, pruned with a reason for each paper, cleaned."""
