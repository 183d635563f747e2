"""What must hold for every vision-language family: on a tiny checkpoint of its real class with its real processor."""

import pytest
import torch

from fixtures_vlm import FAMILIES, picture, vlm
from gnomon.core.models import GenConfig
from gnomon.core.rng import Rng

IMAGES = [picture(0), picture(1, 25, 60), picture(2, 70, 24)]
QUESTIONS = ["a cat sat", "the dog ran in the park and a bird sang", "x"]
GREEDY = GenConfig(max_new_tokens=6, temperature=0)


@pytest.fixture(params=FAMILIES)
def handle(request):
    return vlm(request.param)


def prompts(handle):
    return [handle.prompt(question) for question in QUESTIONS]


def encode(handle, side="left"):
    return handle.encode(prompts(handle), images=IMAGES, side=side)


def library_states(handle, batch):
    with torch.no_grad():
        output = handle.model(**batch.inputs(handle.kind), output_hidden_states=True, use_cache=False)
    return getattr(output, "language_model_outputs", output).hidden_states


def test_capture_is_the_librarys_hidden_states(handle):
    batch = encode(handle)
    states = library_states(handle, batch)
    blocks = range(len(states) - 1)
    found = handle.capture(batch, ["embed", *(f"{i}.resid_post" for i in blocks), "final_norm"])
    assert torch.equal(found["embed"], states[0])
    for i in blocks[:-1]:
        assert torch.equal(found[f"{i}.resid_post"], states[i + 1])
    assert torch.equal(found["final_norm"], states[-1])
    some = handle.capture(batch, ["0.resid_post"], where=batch.image_mask)["0.resid_post"]
    assert torch.equal(some, found["0.resid_post"][batch.image_mask])


def test_the_lens_of_the_last_block_is_the_models_logits(handle):
    batch = encode(handle)
    last = f"{len(handle.sites.top.blocks) - 1}.resid_post"
    assert torch.equal(handle.lens(handle.capture(batch, [last])[last]), handle.logits(batch))


def test_image_tokens_take_what_the_projector_made(handle):
    batch = encode(handle)
    found = handle.capture(batch, ["embed", "projector", "vision.0.resid_pre", "vision.1.resid_post"])
    ids = handle.model.config.image_token_id
    assert torch.equal(batch.image_mask, batch.input_ids == ids)
    counted = [sum(layout.n_tokens for layout in layouts) for layouts in batch.layouts]
    assert batch.image_mask.sum(-1).tolist() == counted
    made = found["projector"].reshape(-1, found["projector"].shape[-1])
    at_images = found["embed"][batch.image_mask]
    nearest = (at_images[:, None] - made[None]).abs().amax(-1).amin(1)
    config = handle.model.config
    if config.text_config.model_type == "opt":  # adds a position to each before its first block
        assert len(at_images) == len(made)
    elif config.model_type == "llava_next":  # and a learned token at the end of each line
        assert (nearest == 0).float().mean() > 0.6
    else:
        assert (nearest == 0).all()
    assert found["vision.0.resid_pre"].shape == found["vision.1.resid_post"].shape


def test_an_edit_that_changes_nothing_changes_no_bit(handle):
    batch = encode(handle)
    plain = handle.logits(batch)
    written = handle.generate(prompts(handle), GREEDY, generator=Rng(0), images=IMAGES)
    with handle.edit({site: lambda hidden, step: hidden.clone() for site in handle.sites}):
        assert torch.equal(handle.logits(batch), plain)
        assert handle.generate(prompts(handle), GREEDY, generator=Rng(0), images=IMAGES) == written


def test_greedy_generation_is_the_librarys_and_images_are_seen(handle):
    found = handle.generate(prompts(handle), GREEDY, generator=Rng(0), images=IMAGES)
    other = handle.generate(prompts(handle), GREEDY, generator=Rng(0), images=IMAGES[::-1])
    assert [c.logprobs for (c,) in found] != [c.logprobs for (c,) in other]
    for (completion,), question, image in zip(found, prompts(handle), IMAGES, strict=True):
        alone = handle.encode([question], images=[image])
        with torch.no_grad():
            theirs = handle.model.generate(**alone.inputs("vlm"), max_new_tokens=6, do_sample=False)
        # Some return the prompt too, and fill the place after an end-of-text token.
        assert theirs[0].tolist()[-6:][: len(completion.token_ids)] == list(completion.token_ids)


def test_logprobs_of_completions_are_those_of_one_pass_over_the_whole(handle):
    """Cached steps after a padded batch against the prompt and the completion read at once."""
    gen, checked = GenConfig(max_new_tokens=6, temperature=0.9, n=3), 0
    for completions, question, image in zip(
        handle.generate(prompts(handle), gen, generator=Rng(0), images=IMAGES),
        prompts(handle),
        IMAGES,
        strict=True,
    ):
        for completion in completions:
            if handle.model.config.image_token_id in completion.token_ids:
                continue  # random weights may write one; read as part of a prompt it would want an image
            checked += 1
            (seen,) = handle.see([question], [image])
            seen.ids.extend(completion.token_ids)
            for key in set(seen.pixels) & {"token_type_ids", "mm_token_type_ids"}:
                kinds = seen.pixels[key]
                after = kinds.new_full((1, len(completion.token_ids)), int(key == "token_type_ids"))
                seen.pixels[key] = torch.cat([kinds, after], 1)
            whole = handle.logprobs(handle.gather([seen]))[0, -len(completion.token_ids) :]
            torch.testing.assert_close(torch.tensor(completion.logprobs), whole, atol=2e-4, rtol=1e-4)
    assert checked > 4


def test_an_edit_of_image_tokens_acts_once_on_the_prompt_alone(handle):
    batch, calls = encode(handle), []

    def push(hidden, step):
        calls.append((hidden.shape[:2], step.is_image.sum(-1).tolist(), step.positions[:, -1].tolist()))
        return hidden + 3 * torch.linspace(-1, 1, hidden.shape[-1]) * step.is_image[..., None]

    plain = handle.logits(batch)
    with handle.edit({"0.resid_post": push}):
        edited = handle.capture(batch, ["0.resid_post"])["0.resid_post"]
        changed = handle.logits(batch)
        assert [call[1] for call in calls] == [batch.image_mask.sum(-1).tolist()] * 2
        calls.clear()
        ours = handle.generate(prompts(handle), GREEDY, generator=Rng(0), images=IMAGES)
        assert any(any(call[1]) for call in calls[:1])
        assert not any(any(call[1]) for call in calls[1:])
        calls.clear()
        with torch.no_grad():
            theirs = handle.model.generate(**batch.inputs("vlm"), max_new_tokens=6, do_sample=False)
        counts, n = batch.image_mask.sum(-1).tolist(), batch.mask.sum(-1)
        assert [call[1] for call in calls] == [counts] + [[0, 0, 0]] * (len(calls) - 1)
        assert [call[2] for call in calls] == [(n - 1 + i).tolist() for i in range(len(calls))]
        calls.clear()
        with torch.no_grad():
            handle.model.generate(**batch.inputs("vlm"), max_new_tokens=3, num_beams=2, do_sample=False)
        assert calls[0][0][0] == 6
        assert calls[0][1] == [count for count in counts for _ in range(2)]
        assert not any(any(call[1]) for call in calls[1:])
    before = handle.capture(batch, ["0.resid_post"])["0.resid_post"]
    assert torch.equal(edited[~batch.image_mask], before[~batch.image_mask])
    assert not torch.allclose(edited[batch.image_mask], before[batch.image_mask])
    assert not torch.allclose(changed[:, -1], plain[:, -1], atol=1e-3)
    assert torch.equal(handle.logits(batch), plain)
    for (completion,), row in zip(ours, theirs.tolist(), strict=True):
        assert row[-6:][: len(completion.token_ids)] == list(completion.token_ids)


def test_padding_on_either_side_and_alone_agree(handle):
    left, right = encode(handle), encode(handle, side="right")
    sites = ["0.resid_post", "1.resid_post"]
    ours, theirs = handle.capture(left, sites), handle.capture(right, sites)
    for site in sites:
        torch.testing.assert_close(ours[site][left.mask], theirs[site][right.mask], atol=2e-4, rtol=1e-3)
    for i, (question, image) in enumerate(zip(prompts(handle), IMAGES, strict=True)):
        alone = handle.encode([question], images=[[image]])
        torch.testing.assert_close(
            handle.capture(alone, sites)[sites[1]][0], ours[sites[1]][i][left.mask[i]], atol=2e-4, rtol=1e-3
        )


def test_a_text_without_an_image_is_read_by_the_language_model(handle):
    batch = handle.encode(QUESTIONS)
    assert not batch.image_mask.any()
    assert batch.layouts == ((), (), ())
    last = f"{len(handle.sites.top.blocks) - 1}.resid_post"
    logits = handle.logits(batch)
    assert torch.equal(handle.lens(handle.capture(batch, [last])[last]), logits)
    alone = handle.logits(handle.encode(QUESTIONS[:1]))[0]
    torch.testing.assert_close(alone, logits[0][batch.mask[0]], atol=2e-4, rtol=1e-3)
    ((found,),) = handle.generate(QUESTIONS[:1], GREEDY, generator=Rng(0))
    assert found.token_ids[0] == alone[-1].argmax()


def test_hooks_are_gone_after_an_exception(handle):
    def fail(hidden, step):
        raise RuntimeError("in the middle")

    batch = encode(handle)
    handle.logits(
        batch
    )  # transformers leaves hooks of its own in the first pass, to capture what a vision tower returns
    before = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in handle.model.modules()]
    for site in ("vision.0.resid_post", "projector", "1.resid_post"):
        with pytest.raises(RuntimeError, match="in the middle"), handle.edit({site: fail}):
            handle.logits(batch)
    assert [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in handle.model.modules()] == before
