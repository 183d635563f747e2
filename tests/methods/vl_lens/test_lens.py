"""The lens against the plain way: all hidden states through the output embedding and one softmax."""

import numpy as np
import pyarrow.parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures_byte_tokens import byte_fallback
from fixtures_vlm import picture, tokenizer, vlm
from gnomon.core.models import LlavaSizes, ModelHandle, tiny_llava
from gnomon.core.models.architectures.parts import ImageLayout, Tile
from gnomon.core.rng import Rng
from gnomon.errors import BadInput, ModelMismatch
from gnomon.methods.vl_lens import LensResult
from gnomon.methods.vl_lens.lens import spell
from gnomon.methods.vl_lens.lens.lens import Reading, lens

PROMPT, WORDS = "a cat sat", ["cat", "bird", "zebra"]
IMAGES = [picture(0), picture(1, 25, 60), picture(2, 70, 24)]


def plain(handle, image, kind="raw", topk=None):
    """[L+1, n, V], as one would write it with transformers alone."""
    batch = handle.encode([handle.prompt(PROMPT)], images=[image])
    with torch.no_grad():
        output = handle.model(**batch.inputs("vlm"), output_hidden_states=True)
        states = list(getattr(output, "language_model_outputs", output).hidden_states)
        if kind == "norm":
            states[:-1] = [handle.sites.top.final_norm(state) for state in states[:-1]]
        logits = torch.stack(
            [handle.model.get_output_embeddings()(state)[batch.image_mask] for state in states]
        )
    if topk is not None:
        logits = logits.where(logits >= logits.topk(topk).values[..., -1:], -torch.inf)
    return logits.double().softmax(-1).numpy()


@pytest.mark.parametrize("name", ["llava", "llava_next", "instructblip", "qwen2_vl", "idefics3"])
@pytest.mark.parametrize(("kind", "topk"), [("raw", None), ("norm", None), ("raw", 20)])
def test_scores_are_those_of_one_softmax_over_everything(name, kind, topk):
    handle = vlm(name)
    found = lens(handle, IMAGES, PROMPT, WORDS, Reading(lens=kind, topk=topk, chunk=7), batch_size=2)
    for b, image in enumerate(IMAGES):
        probs = plain(handle, image, kind, topk)
        assert found.scores[b].shape == (probs.shape[0], probs.shape[1], 3)
        for w, word in enumerate(WORDS):
            tried = {form.text: probs[..., list(form.ids)].max(-1) for form in spell(handle.tokenizer, word)}
            best = max(tried, key=lambda text: tried[text].max())
            np.testing.assert_allclose(found.scores[b][..., w], tried[best], atol=2e-5, rtol=2e-3)
            assert found.spellings[b][w] == best
        np.testing.assert_allclose(found.confidence[b], found.scores[b].max((0, 1)))
        best = probs.argmax(-1)
        for layer, token in ((0, 0), (2, probs.shape[1] - 1)):
            told = found.top_tokens(b, layer, token)
            assert told[0][0] == handle.tokenizer.decode([best[layer, token]])
            assert [p for _, p in told] == pytest.approx(sorted(probs[layer, token])[::-1][:5], rel=2e-3)
    assert (found.lens, found.topk, found.layers) == (kind, topk, tuple(range(len(probs))))


def test_the_filter_leaves_so_many_tokens_which_share_all_probability():
    handle = vlm("llava")
    vocabulary = [handle.tokenizer.decode([i]) for i in range(len(handle.tokenizer))]
    words = [
        t
        for t in vocabulary
        if t.strip() and len(handle.tokenizer(t, add_special_tokens=False)["input_ids"]) == 1
    ]
    found = lens(handle, IMAGES[:1], PROMPT, words, Reading(topk=3))
    by_place = (found.scores[0] > 0).sum(-1)
    assert by_place.max() <= 3
    assert by_place.mean() > 0
    assert found.top_tokens(0, 1, 0, k=5)[3][1] == 0
    assert sum(p for _, p in found.top_tokens(0, 1, 0, k=3)) == pytest.approx(1, abs=1e-5)
    assert lens(handle, IMAGES[:1], PROMPT, WORDS, Reading(preset="llava-1.5")).topk == 50
    assert lens(handle, IMAGES[:1], PROMPT, WORDS, Reading(preset="llava-1.5", topk=7)).topk == 7
    assert lens(handle, IMAGES[:1], PROMPT, WORDS).topk is None


def test_pieces_are_put_together_as_asked():
    handle = vlm("llava")
    probs = plain(handle, IMAGES[0])
    (only, *_) = spell(handle.tokenizer, "zebra")
    assert len(only.ids) > 2
    for pieces, expected in (
        ("max", lambda p: p.max(-1)),
        ("first", lambda p: p[..., 0]),
        ("mean", lambda p: p.mean(-1)),
    ):
        found = lens(handle, IMAGES[:1], PROMPT, ["zebra"], Reading(pieces=pieces))
        tried = {f.text: expected(probs[..., list(f.ids)]) for f in spell(handle.tokenizer, "zebra")}
        np.testing.assert_allclose(
            found.scores[0][..., 0], tried[found.spellings[0][0]], atol=2e-5, rtol=2e-3
        )


def test_chosen_layers_are_those_of_all():
    handle = vlm("llava")
    whole = lens(handle, IMAGES, PROMPT, WORDS)
    some = lens(handle, IMAGES, PROMPT, WORDS, Reading(layers=[2, 0]))
    assert some.layers == (2, 0)
    for b in range(3):
        same = [w for w in range(3) if some.spellings[b][w] == whole.spellings[b][w]]
        assert same
        np.testing.assert_array_equal(some.scores[b][..., same], whole.scores[b][[2, 0]][..., same])
        assert some.top_tokens(b, 2, 3) == whole.top_tokens(b, 2, 3)
    without_last = lens(handle, IMAGES[:1], PROMPT, WORDS, Reading(layers=(1,)))
    assert without_last.scores[0].shape[0] == 1


def test_images_do_not_depend_on_their_company():
    handle = vlm("qwen2_vl")  # images differ in their tokens
    together = lens(handle, IMAGES, PROMPT, WORDS, batch_size=3)
    for b, image in enumerate(IMAGES):
        (alone,) = lens(handle, [image], PROMPT, WORDS).scores
        np.testing.assert_allclose(together.scores[b], alone, atol=2e-5, rtol=5e-3)


def test_half_precision_does_not_underflow():
    model, processor = tiny_llava(tokenizer(), LlavaSizes(layers=2), generator=Rng(0))
    with torch.no_grad():
        model.lm_head.weight.mul_(40)
    exact = lens(ModelHandle(model, processor), IMAGES[:1], PROMPT, ["zebra"], Reading(pieces="mean"))
    half = lens(
        ModelHandle(model.to(torch.bfloat16), processor),
        IMAGES[:1],
        PROMPT,
        ["zebra"],
        Reading(pieces="mean"),
    )
    assert half.scores[0].dtype == np.float32
    assert (half.scores[0] > 0).all()
    assert np.abs(half.scores[0] - exact.scores[0]).max() < 0.15


def test_the_vocabulary_never_exists_for_all_places_at_once():
    handle, widest = vlm("llava"), []
    hook = handle.model.get_output_embeddings().register_forward_hook(
        lambda module, args, output: widest.append(output.numel() // output.shape[-1])
    )
    lens(handle, IMAGES, PROMPT, WORDS, Reading(chunk=4))
    hook.remove()
    assert max(widest) <= 4


def test_a_word_is_written_with_and_without_a_space():
    words = tokenizer()
    assert [form.text for form in spell(words, "cat")] == [" cat", "cat"]
    assert len(spell(words, "cat")[0].ids) == 1  # as in running text
    assert spell(words, " cat ") == spell(words, "cat")


@pytest.mark.parametrize("style", ["llama", "mistral", "gemma"])
@pytest.mark.parametrize("word", ["Paris", "x", "\u5317\u4eac", "caf\u00e9"])
def test_the_first_spelling_is_that_of_running_text(style, word):
    """Whatever the tokenizer writes in front of a text by itself, and for words made of byte tokens."""
    words = byte_fallback(style)
    text = words(f"is {word}", add_special_tokens=False)["input_ids"]
    first, *others = spell(words, word)
    assert text[-len(first.ids) :] == list(first.ids)
    assert words.decode(first.ids).strip() == word
    assert first == spell(words, f" {word} ")[0]
    assert all(words.decode(form.ids).strip() == word for form in others)


def test_spellings_with_unknown_or_empty_pieces_do_not_count():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<unk>": 0, "cat": 1}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")
    assert [form.ids for form in spell(words, "cat")] == [(1,)]
    for word in ("dog", "cat dog", ""):
        with pytest.raises(BadInput, match=f'cannot write the word "{word}" without unknown pieces'):
            spell(words, word)


def result(scores, *tiles, size=(8, 4), words=("a",)):
    layout = ImageLayout(size, scores.shape[1], tiles)
    return LensResult(
        words, tuple(range(len(scores))), [scores], [layout], [words], "raw", None, "max", [], [], None
    )


def test_a_heat_map_by_hand():
    """Two layers, one row of two cells over 8 x 4 pixels: the larger layer counts, between the middles it is straight."""
    scores = np.array([[[0.2], [0.1]], [[0.0], [0.6]]])
    found = result(scores, Tile(np.array([[0, 1]]), (0, 0, 8, 4)))
    assert found.grid(0, "a")[0].tolist() == [[0.2, 0.6]]
    row = [0.2, 0.2, 0.25, 0.35, 0.45, 0.55, 0.6, 0.6]
    np.testing.assert_allclose(found.heatmap(0, "a"), [row] * 4)


def test_margins_are_not_seen_and_tiles_are_averaged():
    scores = np.array([[[0.4], [0.8], [0.2]]])
    left, whole = Tile(np.array([[0]]), (-2, 0, 3, 4)), Tile(np.array([[1]]), (2, 0, 6, 4))
    found = result(scores, left, whole)
    heat, is_seen = found.spread(0, "a")
    np.testing.assert_allclose(heat[0], [0.4, 0.4, 0.6, 0.8, 0.8, 0.8, 0, 0])
    assert is_seen[0].tolist() == [True] * 6 + [False] * 2


@settings(max_examples=30)
@given(
    rows=st.integers(1, 5),
    columns=st.integers(1, 5),
    width=st.integers(10, 40),
    height=st.integers(10, 40),
    data=st.data(),
)
def test_the_hottest_pixel_is_in_the_hottest_cell(rows, columns, width, height, data):
    hot = data.draw(st.integers(0, rows * columns - 1))
    scores = np.full((1, rows * columns, 1), 0.1)
    scores[0, hot, 0] = 0.9
    tile = Tile(np.arange(rows * columns).reshape(rows, columns), (0.0, 0.0, float(width), float(height)))
    heat = result(scores, tile, size=(width, height)).heatmap(0, "a")
    assert heat.shape == (height, width)
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    assert tile.at(x + 0.5, y + 0.5) == hot


def test_a_result_is_saved_row_by_row(tmp_path):
    found = lens(vlm("llava"), IMAGES, PROMPT, WORDS)
    found.to_parquet(tmp_path / "lens.parquet", ["x", "y", "z"])
    rows = pyarrow.parquet.read_table(tmp_path / "lens.parquet").to_pylist()
    assert len(rows) == 3 * 3 * 3
    (one,) = [r for r in rows if (r["image"], r["word"], r["layer"]) == ("y", "bird", 2)]
    np.testing.assert_allclose(one["scores"], found.scores[1][2, :, 1])
    assert one["spelling"] == found.spellings[1][1]


def test_a_plain_model_and_its_processor_will_do():
    handle = vlm("llava")
    found = lens(handle.model, IMAGES[:1], PROMPT, WORDS, processor=handle.processor)
    np.testing.assert_array_equal(found.scores[0], lens(handle, IMAGES[:1], PROMPT, WORDS).scores[0])
    assert lens(handle, IMAGES[:1], PROMPT, []).scores[0].shape == (3, 9, 0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lens": "norms"}, 'No lens is called "norms". Did you mean "norm"'),
        ({"pieces": "min"}, 'No pieces is called "min". Known: first, max, mean'),
        ({"preset": "llava-1.6"}, 'No preset is called "llava-1.6". Did you mean "llava-1.5"'),
        (
            {"layers": [3]},
            r"Each of layers must be in 0..2 \(0: embeddings, 2: after the last block\); got 3",
        ),
        ({"topk": -1}, "topk must be >= 1; got -1"),
        ({"batch_size": 0}, "batch_size must be >= 1; got 0"),
        ({"images": []}, "There are no images to look at"),
        ({"images": [7]}, "Image 0 of text 0 is a int"),
    ],
)
def test_what_cannot_be_asked_is_named(changes, said):
    arguments = {"images": IMAGES[:1], "prompt": PROMPT, "words": WORDS}
    arguments |= {name: value for name, value in changes.items() if name in ("images", "batch_size")}
    with pytest.raises(BadInput, match=said):
        options = {name: value for name, value in changes.items() if name not in arguments}
        lens(vlm("llava"), reading=Reading(**options), **arguments)


def test_what_cannot_be_read_from_a_result_is_named():
    found = lens(vlm("llava"), IMAGES[:1], PROMPT, WORDS, Reading(layers=[1], tops=2))
    for ask, said in (
        (lambda: found.grid(0, "birds"), 'The word "birds" was not looked for. Did you mean "bird"'),
        (lambda: found.top_tokens(0, 2, 0), r"Layer 2 was not read; the layers are \[1\]"),
        (lambda: found.top_tokens(0, 1, 9, k=1), "Image 0 has 9 tokens and no token 9"),
        (lambda: found.top_tokens(0, 1, 0), "2 tokens of each place were kept; for 5 read again with tops=5"),
    ):
        with pytest.raises(BadInput, match=said):
            ask()
    queries = lens(vlm("instructblip"), IMAGES[:1], PROMPT, WORDS)
    assert queries.confidence.shape == (1, 3)
    with pytest.raises(ModelMismatch, match=r"have no place on it .* Take a model with a grid"):
        queries.heatmap(0, "cat")
