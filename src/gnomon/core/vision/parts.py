"""Images as parts of requests: the bytes of the file itself where its format is one that endpoints take."""

from __future__ import annotations

import base64
import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnomon.core.vision.images import open_image, opened
from gnomon.errors import BadInput

if TYPE_CHECKING:
    from PIL.Image import Image

TAKEN = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}
"""Formats that endpoints take -> their media types."""


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image in a request."""

    data: bytes = field(repr=False)
    """The file's own bytes: to encode an image again destroys traces in it, and would make it another request."""
    media_type: str
    """As in `TAKEN`."""
    size: tuple[int, int]
    """Width and height as they are stored, in pixels."""

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes; what stands for them in keys, logs and tapes."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def url(self) -> str:
        """The image as a data URL."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.data).decode()}"

    def __str__(self) -> str:
        kind = self.media_type.partition("/")[2].upper()
        return f"image sha256:{self.digest[:16]} {self.size[0]}x{self.size[1]} {kind}"

    def open(self) -> Image:
        """The picture, as `open_image` gives it."""
        from PIL import Image

        with Image.open(io.BytesIO(self.data)) as image:
            return open_image(image)


def image_part(source: Any, name: str = "The image") -> ImagePart:
    """An image for a request: a file as it is where it is JPEG, PNG, WebP or GIF; anything else as PNG.

    Args:
        source: a path or a PIL image.
        name: what an error calls it.

    Raises:
        BadInput: it cannot be read.
    """
    if isinstance(source, str | Path):
        with opened(source, name) as image:
            kind, size = str(image.format), image.size
            image.load()  # a truncated file is refused here and not by a server
        if kind in TAKEN:
            return ImagePart(Path(source).read_bytes(), TAKEN[kind], size)
    picture, buffer = open_image(source, name), io.BytesIO()
    picture.save(buffer, "PNG")
    return ImagePart(buffer.getvalue(), TAKEN["PNG"], picture.size)


def part_of_url(url: str) -> ImagePart:
    """The image in a data URL.

    Raises:
        BadInput: it is no data URL of an image in base64, or an address: nothing is fetched.
    """
    head, _, data = url.partition(";base64,")
    media_type = head.removeprefix("data:")
    if not head.startswith("data:") or media_type not in TAKEN.values():
        raise BadInput(
            f"An image comes as a data URL ({', '.join(TAKEN.values())}, base64); got {url[:40]!r}."
        )
    try:
        whole = base64.b64decode(data, validate=True)
    except ValueError as error:
        raise BadInput(f"The data URL of an image cannot be read ({error}).") from None
    with opened_bytes(whole) as image:
        return ImagePart(whole, media_type, image.size)


def opened_bytes(data: bytes) -> Any:
    """The image in some bytes, open.

    Raises:
        BadInput: it cannot be read.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(io.BytesIO(data))
    except (UnidentifiedImageError, OSError) as error:
        raise BadInput(f"The bytes of an image cannot be read ({error}).") from None
