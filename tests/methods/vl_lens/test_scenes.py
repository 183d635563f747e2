"""Scenes: what is said of an image is true of its pixels, and the prior is what it claims to be."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.vl_lens.mini import GREY, Scene, SceneWorld, pairs

NAMES = tuple("abcdefgh")


@st.composite
def worlds(draw):
    classes, board = draw(st.integers(2, 12)), draw(st.integers(2, 4))
    return SceneWorld(
        tuple(f"c{i}" for i in range(classes)),
        size=board * draw(st.integers(2, 9)),
        board=board,
        objects=draw(st.integers(1, min((classes + 1) // 2, board**2))),
        noise=draw(st.sampled_from([0.0, 0.25])),
        partner=draw(st.sampled_from([0.0, 0.5, 1.0])),
    )


@given(worlds(), st.integers(0, 99))
def test_a_scene_is_as_it_is_described(world, seed):
    scene = world.scene(Rng(seed))
    assert scene.image.shape == (world.size, world.size, 3) and scene.image.dtype == np.float32
    assert scene.image.min() >= 0 and scene.image.max() <= 1
    assert len(scene.objects) == len(set(scene.names)) == world.objects
    assert scene.caption.split(" and ") == list(scene.names)
    for thing in scene.objects:
        left, top, right, bottom = thing.box
        assert (right - left, bottom - top) == (world.slot, world.slot)
        assert thing.mask.sum() == world.slot**2 and thing.mask[top:bottom, left:right].all()
        assert thing.contrast in (1.0, world.faint_contrast)
    assert sum(thing.mask.astype(int) for thing in scene.objects).max() == 1


@given(worlds(), st.integers(0, 99))
def test_without_noise_every_pixel_is_known(world, seed):
    world = SceneWorld(world.classes, size=world.size, board=world.board, objects=world.objects, noise=0)
    scene = world.scene(Rng(seed))
    expected = np.full_like(scene.image, GREY)
    for thing in scene.objects:
        left, top, right, bottom = thing.box
        look = world.look(thing.name)
        expected[top:bottom, left:right] = GREY + thing.contrast * (look - GREY)
    np.testing.assert_allclose(scene.image, expected, atol=1e-6)


def test_the_same_name_draws_the_same_scene_whatever_else_is_drawn():
    world = SceneWorld(NAMES)
    many, few = world.scenes(5, Rng(1)), world.scenes(3, Rng(1))
    for a, b in zip(few, many, strict=False):
        assert a.caption == b.caption and np.array_equal(a.image, b.image)
    assert not np.array_equal(many[0].image, many[1].image)


@pytest.mark.parametrize(("partner", "expected"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_the_first_of_a_pair_brings_the_second_as_often_as_the_prior_says(partner, expected):
    world = SceneWorld(NAMES, objects=2, partner=partner, noise=0, size=6)
    scenes = world.scenes(600, Rng(2))
    both = sum({a, b} <= set(scene.names) for scene in scenes for a, b in pairs(NAMES))
    # With two objects a first class drawn first always leaves room; that is half of all first draws.
    assert both / len(scenes) == pytest.approx(expected / 2, abs=0.06)


def test_partners_stay_away_without_the_prior():
    world = SceneWorld(NAMES, partner=0, noise=0, size=6)
    for scene in world.scenes(300, Rng(3)):
        assert not any({a, b} <= set(scene.names) for a, b in pairs(NAMES))


def test_a_faint_object_is_drawn_faintly_and_as_often_as_asked():
    world = SceneWorld(NAMES, noise=0, faint=0.3, faint_contrast=0.1)
    things = [(scene, thing) for scene in world.scenes(300, Rng(4)) for thing in scene.objects]
    faint = [(scene, thing) for scene, thing in things if thing.contrast == 0.1]
    assert len(faint) / len(things) == pytest.approx(0.3, abs=0.06)
    assert all(abs(scene.image[thing.mask] - GREY).max() <= 0.05 + 1e-6 for scene, thing in faint)


def test_looks_are_told_apart():
    world = SceneWorld(tuple(f"c{i}" for i in range(40)), size=96, board=3)
    for a, b in itertools.combinations(world.classes, 2):
        assert abs(world.look(a) - world.look(b)).mean() > 0.04, (a, b)
    with pytest.raises(ValueError, match="read-only"):
        world.look("c0")[:] = 0


def test_cells_name_what_is_at_their_middle():
    world = SceneWorld(("a", "b"), size=12, board=3, objects=1, noise=0)
    bare = Scene(np.full((12, 12, 3), GREY, np.float32), ())
    scene = world.put(world.put(bare, "a", (0, 0)), "b", (8, 4))
    assert scene.cells(3, 3) == [["a", None, None], [None, None, "b"], [None, None, None]]
    assert scene.cells(6, 6)[:2] == [["a", "a", None, None, None, None]] * 2
    assert scene.cells(1, 1) == [[None]]


def test_a_pasted_object_changes_its_box_and_nothing_else():
    world = SceneWorld(NAMES, objects=2)
    scene = world.scene(Rng(5))
    name = next(name for name in NAMES if name not in scene.names)
    taken = sum(thing.mask for thing in scene.objects)
    left, top = next(
        (x, y) for x in (0, 16, 32) for y in (0, 16, 32) if not taken[y : y + 16, x : x + 16].any()
    )
    forged = world.put(scene, name, (left, top))
    assert forged.names == (*scene.names, name) and len(scene.objects) == 2
    changed = (forged.image != scene.image).any(-1)
    mask = forged.objects[-1].mask
    assert not changed[~mask].any() and changed[mask].mean() > 0.9
    with pytest.raises(BadInput, match=f"covers the {name} at"):
        world.put(forged, name, (left, top))
    with pytest.raises(BadInput, match=r"box \(40, 0, 56, 16\) leaves the image of 48 x 48"):
        world.put(scene, name, (40, 0))
    with pytest.raises(BadInput, match='no class "dgo"'):
        world.put(scene, "dgo", (0, 0))


def test_the_picture_is_the_image_in_eight_bits():
    scene = SceneWorld(NAMES).scene(Rng(6))
    picture = np.asarray(scene.picture())
    assert picture.shape == (48, 48, 3) and abs(picture / 255 - scene.image).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 50}, "size must be a multiple of board = 3; got 50"),
        ({"size": 0}, "size must be a multiple"),
        ({"board": 0}, "board must be >= 1"),
        ({"objects": 5}, "objects must be between 1 and 4"),
        ({"objects": 0}, "objects must be between"),
        ({"noise": -1.0}, "noise must be >= 0"),
        ({"faint": 1.5}, r"faint must be in 0\.\.1"),
        ({"partner": -0.1}, r"partner must be in 0\.\.1"),
        ({"classes": ("a", "a")}, "classes must be different names"),
        ({"classes": ("a", "")}, "classes must be names that are not empty"),
    ],
)
def test_what_a_world_cannot_be(settings, message):
    with pytest.raises(BadConfig, match=f"SceneWorld.{message}"):
        SceneWorld(**{"classes": NAMES, **settings})
