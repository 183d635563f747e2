"""The logit lens on image tokens: words, maps, masks, and detection of hallucinations."""
