"""Support of a text by its source: the stand-in by hand, the scorers on tiny checkpoints by another road."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaModel,
)

from gnomon.core.metrics.support import SupportScorer, align_score_folder, chunks, content, token_support
from gnomon.core.rng import Rng, seeded
from gnomon.errors import BadInput, ModelMismatch

WORDS = ["the", "council", "met", "mayor", "paid", "12", "budget", "plan", ".", "new"]
SOURCE = "The council met. " * 200 + "The mayor paid 12."
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 516,
}


def tokenizer():
    table = {w: i for i, w in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
    inner = Tokenizer(models.WordLevel(table, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **names)


def config(**more):
    return RobertaConfig(
        vocab_size=len(WORDS) + 4, pad_token_id=1, bos_token_id=0, eos_token_id=2, **SIZES, **more
    )


@pytest.fixture(scope="module")
def nli(tmp_path_factory):
    folder = tmp_path_factory.mktemp("support") / "nli"
    labels = {0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"}
    with seeded(Rng(0)):
        model = RobertaForSequenceClassification(
            config(id2label=labels, label2id={v: k for k, v in labels.items()})
        )
    with torch.no_grad():
        model.classifier.out_proj.weight.mul_(40)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A file like AlignScore's own: the encoder under `base_model.`, and four heads."""
    folder = tmp_path_factory.mktemp("align")
    with seeded(Rng(1)):
        encoder = RobertaModel(config())
        heads = {"tri_layer": torch.nn.Linear(16, 3), "bin_layer": torch.nn.Linear(16, 2)}
    state = {f"base_model.{n}": v for n, v in encoder.state_dict().items()}
    for name, head in heads.items():
        state |= {f"{name}.{n}": v * 20 for n, v in head.state_dict().items()}
    base = folder / "base"
    encoder.save_pretrained(base)
    tokenizer().save_pretrained(base)
    torch.save({"state_dict": state, "epoch": 3}, folder / "published.ckpt")
    return folder, base


def test_content_words_and_numbers_by_hand():
    assert content("It's the mayor's 1,200 NEW meetings!") == {"mayor", "1200", "new", "meet"}
    assert token_support("The mayor met 13 councils", "Mayors met 12 councils") == 0.75
    assert math.isnan(token_support("it was not", "the mayor"))
    assert token_support("mayor", "") == 0.0


@given(st.text(max_size=60), st.text(max_size=60))
def test_support_is_a_share_and_whole_for_a_part_of_the_source(text, rest):
    found = token_support(text, f"{rest} {text}")
    assert math.isnan(found) or found == 1.0
    other = token_support(text, rest)
    assert math.isnan(other) or 0 <= other <= 1


def test_chunks_hold_all_sentences_once_and_at_most_about_as_many_words():
    pieces = chunks(SOURCE)
    assert " ".join(pieces) == SOURCE
    # 604 words make two chunks of 100 sentences; the one that is left over is a third, as in AlignScore.
    assert [len(piece.split()) for piece in pieces] == [300, 300, 4]
    assert chunks("") == [""]


def by_hand(forward, place, text, source):
    """Every pair read alone."""
    claims, pieces = [f"{c}." for c in text.rstrip(".").split(". ")], chunks(source)
    read = tokenizer()

    def one(piece, claim):
        batch = read([piece], [claim], return_tensors="pt", truncation="only_first", max_length=512)
        with torch.inference_mode():
            return forward(batch).softmax(-1)[0, place].item()

    return sum(max(one(p, c) for p in pieces) for c in claims) / len(claims)


def test_a_classifier_scores_the_mean_over_sentences_of_the_best_chunk(nli):
    scorer = SupportScorer(nli, device="cpu", batch_size=3)
    assert scorer.name == "NLI nli" and not scorer.is_align_score
    text = "The mayor paid 12. The council met. New plan."
    model = RobertaForSequenceClassification.from_pretrained(nli).eval()
    expected = by_hand(lambda batch: model(**batch).logits, 2, text, SOURCE)
    assert scorer.score(text, SOURCE) == pytest.approx(expected, abs=1e-5)


def test_one_by_one_and_together_are_the_same_and_nothing_said_is_nan(nli):
    scorer = SupportScorer(nli, device="cpu")
    texts, sources = ["New plan.", "", "The mayor met. The council paid 12."], ["plan", "x", SOURCE]
    together = scorer.score_many(texts, sources)
    assert math.isnan(together[1])
    for i in (0, 2):
        assert scorer.score(texts[i], sources[i]) == pytest.approx(together[i], abs=1e-5)


def test_the_published_file_of_align_score_becomes_a_folder(published, tmp_path):
    file, base = published
    made = align_score_folder(file / "published.ckpt", str(base), tmp_path / "align")
    assert not any(name.startswith("bin_layer") for name in load_file(made / "model.safetensors"))
    scorer = SupportScorer(made, device="cpu")
    assert scorer.name == "AlignScore" and scorer.is_align_score
    state = torch.load(file / "published.ckpt", weights_only=True)["state_dict"]
    encoder = RobertaModel(config()).eval()
    encoder.load_state_dict({n.removeprefix("base_model."): v for n, v in state.items() if "base_model" in n})
    weight, bias = state["tri_layer.weight"], state["tri_layer.bias"]
    text = "The council met. New budget."
    expected = by_hand(lambda batch: encoder(**batch).pooler_output @ weight.T + bias, 0, text, SOURCE)
    assert scorer.score(text, SOURCE) == pytest.approx(expected, abs=1e-5)


def test_a_file_that_is_something_else_is_refused_and_never_run(published, tmp_path):
    _, base = published
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.ckpt")
    with pytest.raises(BadInput, match=r"tri_layer\.weight is missing"):
        align_score_folder(tmp_path / "other.ckpt", str(base), tmp_path / "x")
    torch.save({"state_dict": {}, "code": _Marker()}, tmp_path / "code.ckpt")
    with pytest.raises(BadInput, match="more than tensors"):
        align_score_folder(tmp_path / "code.ckpt", str(base), tmp_path / "x")


class _Marker:
    def __reduce__(self):
        return (exec, ("raise SystemExit('the file was run')",))


def test_a_classifier_without_entailment_is_refused(nli, tmp_path):
    RobertaForSequenceClassification(config(id2label={0: "GOOD", 1: "BAD"})).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelMismatch, match="no label of entailment among GOOD, BAD"):
        SupportScorer(tmp_path, device="cpu")
    with pytest.raises(BadInput):
        SupportScorer(tmp_path / "nothing", device="cpu")
