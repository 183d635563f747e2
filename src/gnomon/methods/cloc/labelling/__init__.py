"""Region texts out of captions (VESL): phrases of a caption, and a detector that finds them on the image."""
