"""What judges are shown: items, the probes that change them, cues and checked rewrites."""
