"""Features of images that are kept: the states are those of pixels, and each picture goes through the tower once."""

import copy

import pytest
import torch

from fixtures_vlm import FAMILIES, picture, vlm
from gnomon.core.models.images.features import INSTEAD, ImageFeatures
from gnomon.core.models.sampling.states import States, inputs_of

WITH_BODY = [name for name in FAMILIES if name not in ("instructblip", "blip2")]
"""These two have no part without a head, and encode nothing."""


def inputs_for(handle, images):
    prompts = [handle.prompt("a cat sat", images=1)] * len(images)
    seen = handle.see(prompts, [[image] for image in images])
    return inputs_of(handle.gather(seen, side="right"), handle.kind, handle.model)


@pytest.mark.parametrize("name", WITH_BODY)
def test_the_states_are_those_of_pixels(name):
    handle = vlm(name)
    features, module = ImageFeatures(handle.model), States(handle.model).eval()
    first, second = (inputs_for(handle, [picture(i) for i in seeds]) for seeds in ((0, 1, 0), (1, 2)))
    with torch.no_grad():
        for inputs, mask in (first, second):
            torch.testing.assert_close(
                module(features.read(inputs), mask), module(inputs, mask), atol=1e-4, rtol=1e-4
            )
    assert (features.seen, features.computed) == (5, 3)


def noisy(model):
    """A change of what becomes of images, in place as a step of training makes it."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "projector" in name:
                weight.mul_(-3)


def test_weights_that_have_changed_empty_the_store():
    handle = copy.deepcopy(vlm("llava"))
    features, module = ImageFeatures(handle.model), States(handle.model).eval()
    inputs, mask = inputs_for(handle, [picture(0)])
    with torch.no_grad():
        before = module(features.read(inputs), mask)
        noisy(handle.model)
        after = module(features.read(inputs), mask)
        torch.testing.assert_close(after, module(inputs, mask), atol=1e-4, rtol=1e-4)
    assert features.computed == 2 and not torch.allclose(before, after, atol=1e-3)


def test_alone_a_picture_has_the_same_features_to_the_last_bit():
    handle = vlm("llava")
    rows = []
    for company in ([0], [0, 1, 2], [2, 0]):
        features = ImageFeatures(handle.model)
        inputs, _ = inputs_for(handle, [picture(i) for i in company])
        rows.append(features.read(inputs, alone=True)[INSTEAD]["image"].pooler_output[company.index(0)])
    assert torch.equal(rows[0], rows[1]) and torch.equal(rows[0], rows[2])


def test_the_store_keeps_within_its_bytes():
    handle = vlm("llava")
    inputs, _ = inputs_for(handle, [picture(i) for i in range(4)])
    size = ImageFeatures(handle.model).read(inputs)[INSTEAD]["image"].pooler_output[0].nbytes
    features = ImageFeatures(handle.model, most_bytes=2 * size)
    for seeds in ((0, 1, 2, 3), (2, 3), (0,)):  # the last two are still there, the first is not
        inputs, _ = inputs_for(handle, [picture(i) for i in seeds])
        features.read(inputs)
    assert (features.seen, features.computed) == (7, 5)


def test_texts_without_images_stay_as_they_are():
    handle = vlm("llava")
    inputs, _ = inputs_of(handle.pad([[5, 6]]), handle.kind, handle.model)
    assert ImageFeatures(handle.model).read(inputs).keys() == inputs.keys()
