"""Images for vision-language models: their processors, texts with images in reading order, and batches of those."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Images": "seen",
        "SeenText": "seen",
        "image_sign": "seen",
        "open_images": "seen",
        "processed": "seen",
        "put_together": "seen",
        "question": "seen",
        "samples": "seen",
        "see_text": "seen",
        "see_pieces": "pieces",
        "see_each": "pieces",
        "have_images": "seen",
        "text_ids": "pieces",
        "Markup": "pieces",
        "begin_ids": "pieces",
        "load_processor": "processors",
        "without_videos": "processors",
    },
)
