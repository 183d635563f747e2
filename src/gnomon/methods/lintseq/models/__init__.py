"""Models that write edits: trained, sampled and evaluated."""
