"""Images as every room reads them: upright, in eight-bit colours, or refused in one sentence."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(__name__, {"MOST_PIXELS": "images", "open_image": "images"})
