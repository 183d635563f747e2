import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures_vlm import picture, vlm
from gnomon.errors import BadInput, ModelMismatch
from gnomon.methods.vl_lens.lens import level, otsu, segment
from gnomon.methods.vl_lens.lens.lens import lens


@pytest.mark.parametrize(
    "name", ["llava", "llava-padded", "llava_next", "paligemma", "qwen2_5_vl", "idefics3"]
)
@pytest.mark.parametrize("size", [(40, 30), (25, 60)])
def test_a_mask_has_the_originals_size_and_is_cut_from_the_map(name, size):
    handle, image = vlm(name), picture(3, *size)
    mask, heat = segment(handle, image, "cat")
    assert mask.shape == heat.shape == (size[1], size[0])
    assert mask.dtype == np.uint8
    found = lens(handle, [image], "Write a detailed description.", ["cat"])
    np.testing.assert_allclose(heat, found.heatmap(0, "cat"))
    _, is_seen = found.spread(0, "cat")
    assert is_seen.all() == (name != "llava")
    np.testing.assert_array_equal(mask, is_seen & (heat > heat[is_seen].mean()))
    assert 0 < mask.mean() < 1


def test_margins_that_the_model_never_saw_do_not_count():
    """40 x 30, cropped to 30 x 30: five columns on either side are unseen, outside the mask and outside its mean."""
    mask, heat = segment(vlm("llava"), picture(3, 40, 30), "cat")
    assert not mask[:, :5].any()
    assert not mask[:, 35:].any()
    assert not heat[:, :5].any()
    assert heat[:, 5:35].all()
    seen = heat[:, 5:35]
    np.testing.assert_array_equal(mask[:, 5:35], seen > seen.mean())


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [("mean", 0.35), ("otsu", 0.3), (0.5, 0.5), (0, 0.0), ("q0.5", 0.25), ("q1", 0.8), ("q0.0", 0.1)],
)
def test_levels_by_hand(threshold, expected):
    assert level(np.array([0.1, 0.2, 0.3, 0.8]), threshold) == pytest.approx(expected)


@pytest.mark.parametrize("threshold", ["median", "q", "qx", "q2", 1.5, -0.1])
def test_another_threshold_is_refused_before_anything_is_computed(threshold):
    with pytest.raises(BadInput, match=r"threshold must be .*; got"):
        segment(None, None, "cat", threshold)


@given(st.lists(st.integers(0, 20), min_size=2, max_size=30))
def test_otsu_cuts_where_two_groups_differ_most(counts):
    values = np.array(counts) / 20

    def within(cut):
        """Variance left inside the groups, weighed by their sizes: what Otsu's rule makes least."""
        parts = [part for part in (values[values <= cut], values[values > cut]) if len(part)]
        return sum(part.var() * len(part) for part in parts)

    cut = otsu(values)
    assert within(cut) == pytest.approx(min(within(other) for other in values), abs=1e-9)


def test_a_model_whose_tokens_are_no_grid_is_refused():
    for name in ("instructblip", "blip2", "idefics2"):
        with pytest.raises(ModelMismatch, match="have no place on it"):
            segment(vlm(name), picture(0), "cat")
