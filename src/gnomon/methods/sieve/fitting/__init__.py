"""From labels to a calibrated filter, and the filter at work."""
