"""Words erased from image tokens, and captions written anew."""
