"""Scenes of textured objects on a noisy board: images with boxes, masks and captions as ground truth.

    world = SceneWorld(("cat", "dog", "cup", "fork"), partner=0.85)
    scene = world.scene(Rng(0).child("train", 7))
    scene.image          # [48, 48, 3], floats in 0..1
    scene.caption        # "dog and cat and fork"
    scene.objects[0]     # its name, box, mask and contrast

Every class has a look of its own: two colours and a texture. A faint object is the same look at low contrast. Classes come in
pairs, and the world's prior puts the second of a pair beside the first: what a model learns to expect and not to see.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput, nearest

if TYPE_CHECKING:
    from PIL.Image import Image

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are the first pixels outside."""

GREY = 0.5
"""The board without noise."""
_HUE_STEP = 0.37  # keeps neighbours apart, and also the classes that share a texture


@dataclass(frozen=True)
class SceneObject:
    """One object of a scene."""

    name: str
    """Its class."""
    box: Box
    """Its bounding box."""
    mask: Bool[np.ndarray, "H W"]
    """True at its pixels."""
    contrast: float
    """How strongly it is drawn: 1 fully, towards 0 fainter."""


@dataclass(frozen=True)
class Scene:
    """An image and everything that is true of it."""

    image: Float[np.ndarray, "H W 3"]
    """Red, green and blue in 0..1."""
    objects: tuple[SceneObject, ...]
    """Its objects, in the order in which the caption names them."""

    @property
    def names(self) -> tuple[str, ...]:
        """The classes of its objects."""
        return tuple(thing.name for thing in self.objects)

    @property
    def caption(self) -> str:
        """All objects by name: "a and b and c"."""
        return " and ".join(self.names)

    def picture(self) -> Image:
        """The image with eight bits a channel, as a file would hold it."""
        from PIL import Image

        return Image.fromarray((self.image * 255).round().astype(np.uint8))

    def cells(self, rows: int, columns: int) -> list[list[str | None]]:
        """What is at the middle of each cell of a grid over the image: a class, or None for the bare board."""
        height, width = self.image.shape[:2]
        named: list[list[str | None]] = [[None] * columns for _ in range(rows)]
        for row in range(rows):
            for column in range(columns):
                y, x = (2 * row + 1) * height // (2 * rows), (2 * column + 1) * width // (2 * columns)
                named[row][column] = next((o.name for o in self.objects if o.mask[y, x]), None)
        return named


@dataclass(frozen=True)
class SceneWorld:
    """What scenes are drawn from.

    Raises:
        BadConfig: a number is out of range, a class stands twice, or a scene cannot hold its objects.
    """

    classes: tuple[str, ...]
    """Names of the classes. The second, fourth ... is the partner of the one before it."""
    size: int = 48
    """Width and height of the image, in pixels."""
    board: int = 3
    """Slots in a row and in a column; an object fills a slot."""
    objects: int = 3
    """Objects in a scene, all of different classes."""
    noise: float = 0.25
    """Standard deviation of the Gaussian noise on every channel of every pixel."""
    faint: float = 0.3
    """Share of objects that are drawn faint."""
    faint_contrast: float = 0.12
    """How strongly a faint object is drawn; others have 1."""
    partner: float = 0.85
    """Chance that the first of a pair brings its partner, where a slot is left; otherwise the partner stays away."""

    def __post_init__(self) -> None:
        _check(len(set(self.classes)) == len(self.classes), "classes", "different names", self.classes)
        _check(all(self.classes), "classes", "names that are not empty", self.classes)
        _check(self.board >= 1, "board", ">= 1", self.board)
        _check(
            self.size >= self.board and self.size % self.board == 0,
            "size",
            f"a multiple of board = {self.board}",
            self.size,
        )
        most = min(self.board**2, (len(self.classes) + 1) // 2)
        _check(
            1 <= self.objects <= most,
            "objects",
            f"between 1 and {most} (no more than slots and pairs of classes)",
            self.objects,
        )
        _check(self.noise >= 0, "noise", ">= 0", self.noise)
        for name in ("faint", "faint_contrast", "partner"):
            value = getattr(self, name)
            _check(0 <= value <= 1, name, "in 0..1", value)

    @property
    def slot(self) -> int:
        """Width and height of a slot, in pixels."""
        return self.size // self.board

    def scene(self, rng: Rng) -> Scene:
        """A scene, the same for the same `rng`."""
        draw = rng.numpy()
        names = self._names(draw)
        slots = draw.choice(self.board**2, len(names), replace=False)
        is_faint = draw.random(len(names)) < self.faint
        noise = draw.standard_normal((self.size, self.size, 3), np.float32)
        image = np.float32(GREY) + np.float32(self.noise) * noise
        objects = []
        for name, slot, faint in zip(names, slots, is_faint, strict=True):
            row, column = divmod(int(slot), self.board)
            contrast = self.faint_contrast if faint else 1.0
            objects.append(self._draw(image, name, (column * self.slot, row * self.slot), contrast))
        return Scene(image.clip(0, 1), tuple(objects))

    def scenes(self, count: int, rng: Rng) -> list[Scene]:
        """So many scenes; scene i is a function of `rng` and i alone."""
        return [self.scene(rng.child(i)) for i in range(count)]

    def put(self, scene: Scene, name: str, corner: tuple[int, int], *, contrast: float = 1.0) -> Scene:
        """The scene with one more object; the board's noise stays on it.

        Args:
            scene: what to draw on; it stays as it is.
            name: class of the object.
            corner: left and top of its box, in pixels.
            contrast: how strongly to draw it, 0..1.

        Raises:
            BadInput: the class is unknown, or the box leaves the image or covers another object.
        """
        image = scene.image.copy()
        drawn = self._draw(image, name, corner, contrast)
        for other in scene.objects:
            if (other.mask & drawn.mask).any():
                raise BadInput(f"The box {drawn.box} covers the {other.name} at {other.box}.")
        return Scene(image.clip(0, 1), (*scene.objects, drawn))

    def _draw(self, image: np.ndarray, name: str, corner: tuple[int, int], contrast: float) -> SceneObject:
        """Draw an object on `image`, in place."""
        left, top = corner
        right, bottom = left + self.slot, top + self.slot
        height, width = image.shape[:2]
        if min(left, top) < 0 or right > width or bottom > height:
            raise BadInput(
                f"The box {(left, top, right, bottom)} leaves the image of {width} x {height} pixels."
            )
        image[top:bottom, left:right] += np.float32(contrast) * (self.look(name) - np.float32(GREY))
        mask = np.zeros((height, width), bool)
        mask[top:bottom, left:right] = True
        return SceneObject(name, (left, top, right, bottom), mask, contrast)

    def look(self, name: str) -> Float[np.ndarray, "S S 3"]:
        """The class as it would be seen without noise: two colours in a texture of its own, 0..1.

        Raises:
            BadInput: there is no such class.
        """
        if name not in self.classes:
            raise BadInput(f'This world has no class "{name}". {nearest(name, self.classes)}')
        return _look(self.classes.index(name), self.slot)

    def _names(self, draw: np.random.Generator) -> list[str]:
        """Classes of one scene under the prior, shuffled."""
        chosen: list[int] = []
        free = set(range(len(self.classes)))
        while len(chosen) < self.objects:
            first = int(draw.choice(sorted(free)))
            pair = {first, first ^ 1} & free
            chosen.append(first)
            has_partner = first % 2 == 0 and first + 1 < len(self.classes)
            if has_partner and len(chosen) < self.objects and draw.random() < self.partner:
                chosen.append(first + 1)
            free -= pair
        return [self.classes[i] for i in draw.permutation(chosen)]


def pairs(classes: Iterable[str]) -> list[tuple[str, str]]:
    """Each first class of a pair with its partner."""
    names = list(classes)
    return list(zip(names[::2], names[1::2], strict=False))


@cache
def _look(number: int, size: int) -> Float[np.ndarray, "S S 3"]:
    hue = number * _HUE_STEP % 1
    light, dark = colorsys.hsv_to_rgb(hue, 1, 1), colorsys.hsv_to_rgb((hue + 0.08) % 1, 1, 0.25)
    look = np.where(_texture(number, size)[..., None], light, dark).astype(np.float32)
    look.flags.writeable = False  # everybody gets the same one
    return look


def _texture(number: int, size: int) -> Bool[np.ndarray, "S S"]:
    """One of seven binary patterns, in one of three widths."""
    width = max(1, size // (4 + 4 * (number // 7 % 3)))
    y, x = np.mgrid[:size, :size]
    rows, columns = y // width, x // width
    from_middle = np.maximum(abs(2 * x + 1 - size), abs(2 * y + 1 - size)) // 2
    patterns = (
        columns,
        rows,
        rows + columns,
        (x + y) // width,
        from_middle // width,
        (size + x - y) // width,
        (rows % 2) * (columns % 2),
    )
    is_dark: np.ndarray = patterns[number % 7] % 2 == 0
    return is_dark


def _check(condition: bool, field: str, rule: str, got: object) -> None:
    if not condition:
        raise BadConfig(f"SceneWorld.{field} must be {rule}; got {got!r}.")
