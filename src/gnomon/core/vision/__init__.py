"""Images and what is true of them, as every room reads, compares and shows them."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Frame": "frames",
        "ImageRow": "rows",
        "Left": "rows",
        "MOST_PIXELS": "images",
        "Region": "outlines",
        "Stored": "masks",
        "frames_of": "masks",
        "open_image": "images",
        "open_mask": "masks",
        "over_images": "over",
        "overlay": "draw",
        "pictures_of": "rows",
        "read_coco": "regions",
        "read_images": "rows",
        "readable": "over",
        "sheet": "draw",
        "with_masks": "rows",
        "with_regions": "regions",
    },
)
