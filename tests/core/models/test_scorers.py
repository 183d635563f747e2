"""Scorers: values at every token, the value of a text at its last real one, and a head that is never made up."""

import shutil

import pytest
import torch

from gnomon.core.models import (
    load_model,
    load_scorer,
    load_tokenizer,
    new_scorer,
    save_scorer,
    text_scores,
    token_scores,
)
from gnomon.core.models.batch import pad
from gnomon.core.models.load.scorers import add_scorer_lora, backbone, head_of
from gnomon.core.models.sampling.likelihood import score_rows
from gnomon.core.rng import Rng
from gnomon.errors import BadInput, ModelMismatch

FAMILIES = ("llama", "gpt2", "qwen2", "opt", "gpt_neox", "gemma2")
ROWS = [[5, 6, 7, 8, 9], [11, 12], [21, 22, 23]]


def scorer_of(checkpoint, name, seed=0):
    model = new_scorer(load_model(checkpoint(name), device="cpu"), Rng(0)).eval()
    with torch.no_grad():
        for parameter in head_of(model)[1].parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(seed))
    return model


def alone(model, row):
    """By hand: the head on the backbone's states of the text alone."""
    with torch.no_grad():
        hidden = backbone(model)(input_ids=torch.tensor([row])).last_hidden_state[0]
        return head_of(model)[1](hidden)[:, 0]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_values_are_those_of_each_text_alone_under_any_padding(name, side, checkpoint):
    model = scorer_of(checkpoint, name)
    batch = pad(ROWS, 0, side)
    with torch.no_grad():
        values, last = token_scores(model, batch), text_scores(model, batch)
    assert values.shape == batch.mask.shape
    for i, row in enumerate(ROWS):
        torch.testing.assert_close(values[i][batch.mask[i]], alone(model, row), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(last[i], alone(model, row)[-1], atol=1e-4, rtol=1e-4)
    assert score_rows(model, load_tokenizer(checkpoint(name)), ROWS, batch_size=2) == pytest.approx(
        [float(alone(model, row)[-1]) for row in ROWS], abs=1e-4
    )


def test_the_end_of_the_text_is_scored_where_padding_is_the_same_token(checkpoint):
    """SmolLM2: both are one token; the classes of transformers then score the token before the end."""
    model = scorer_of(checkpoint, "llama")
    end = 2
    model.config.pad_token_id = end
    rows = [[5, 6, 7, end], [11, end]]
    batch = pad(rows, end, "right")
    with torch.no_grad():
        ours = text_scores(model, batch)
        theirs = model(input_ids=batch.input_ids, attention_mask=batch.mask.long()).logits[:, 0]
    for i, row in enumerate(rows):
        values = alone(model, row)
        torch.testing.assert_close(ours[i], values[-1], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(theirs[i], values[-2], atol=1e-4, rtol=1e-4)  # why it matters


def test_a_new_scorer_has_the_models_states_and_says_nothing(checkpoint):
    model = load_model(checkpoint("gpt2"), device="cpu")
    scorer = new_scorer(model, Rng(0))
    assert text_scores(scorer, pad(ROWS, 0)).abs().max() == 0
    with torch.no_grad():
        ids = torch.tensor([ROWS[0]])
        assert torch.equal(
            backbone(scorer)(input_ids=ids).last_hidden_state,
            model.transformer(input_ids=ids).last_hidden_state,
        )
    before = [p.clone() for p in model.parameters()]
    for parameter in scorer.parameters():
        parameter.data.add_(1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))  # a copy
    loss = token_scores(new_scorer(model, Rng(0)), pad(ROWS, 0)).sum()
    loss.backward()


def test_a_scorer_is_saved_as_transformers_writes_it(checkpoint, tmp_path):
    from transformers import AutoModelForSequenceClassification

    model, tokenizer = scorer_of(checkpoint, "qwen2"), load_tokenizer(checkpoint("qwen2"))
    save_scorer(model, tokenizer, tmp_path / "s")
    with torch.no_grad():
        wanted = text_scores(model, pad(ROWS, 0))
        for again in (
            load_scorer(tmp_path / "s", device="cpu"),
            load_model(tmp_path / "s", kind="scorer", device="cpu"),
            AutoModelForSequenceClassification.from_pretrained(tmp_path / "s").eval(),
        ):
            assert torch.equal(text_scores(again, pad(ROWS, 0)), wanted)


def test_a_checkpoint_without_a_head_is_refused_and_says_what_to_do(checkpoint, tmp_path):
    """OpenRLHF 643, ms-swift 9239: transformers would make a head up."""
    with pytest.raises(ModelMismatch, match=r"LlamaForCausalLM and has no head that scores.*new_scorer"):
        load_scorer(checkpoint("llama"))
    save_scorer(scorer_of(checkpoint, "llama"), load_tokenizer(checkpoint("llama")), tmp_path / "s")
    from safetensors.torch import load_file, save_file

    file = tmp_path / "s" / "model.safetensors"
    weights = load_file(file)
    del weights["score.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ModelMismatch, match=r"lacks the weights score\.weight"):
        load_scorer(tmp_path / "s")
    with pytest.raises(BadInput):
        load_scorer(tmp_path / "none")


def test_a_classifier_of_more_classes_is_none(checkpoint, tmp_path):
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.from_pretrained(checkpoint("llama"), num_labels=3)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "c")
    with pytest.raises(ModelMismatch, match="has 3 outputs"):
        load_scorer(tmp_path / "c")
    assert load_scorer(tmp_path / "c", most_labels=None, device="cpu").config.num_labels == 3


def test_an_adapter_brings_its_head_and_is_continued(checkpoint, tmp_path):
    """OpenRLHF 873: with LoRA the head is trained, and saved, in full; ms-swift 6099: it is kept when training goes on."""
    tokenizer = load_tokenizer(checkpoint("llama"))
    base = load_model(checkpoint("llama"), device="cpu")
    model = add_scorer_lora(new_scorer(base, Rng(0)), 4)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert any("score" in name for name in trained) and any("lora_" in name for name in trained)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    for _ in range(2):
        ((token_scores(model, pad(ROWS, 0)) - 1) ** 2).mean().backward()
        optimizer.step()
    model.eval()
    save_scorer(model, tokenizer, tmp_path / "a")
    again = load_scorer(tmp_path / "a", device="cpu")
    with torch.no_grad():
        wanted = text_scores(model, pad(ROWS, 0))
        assert wanted.abs().max() > 0
        torch.testing.assert_close(text_scores(again, pad(ROWS, 0)), wanted, atol=1e-6, rtol=1e-6)
        merged = again.merge_and_unload()
        torch.testing.assert_close(text_scores(merged, pad(ROWS, 0)), wanted, atol=1e-5, rtol=1e-5)
        save_scorer(merged, tokenizer, tmp_path / "m")
        torch.testing.assert_close(
            text_scores(load_scorer(tmp_path / "m", device="cpu"), pad(ROWS, 0)), wanted, atol=1e-5, rtol=1e-5
        )
        assert torch.equal(
            text_scores(new_scorer(merged, Rng(1)), pad(ROWS, 0)), text_scores(merged, pad(ROWS, 0))
        )


def test_an_adapter_without_a_head_is_refused(checkpoint, tmp_path):
    from gnomon.core.models import add_lora, save_lora

    tuned = add_lora(load_model(checkpoint("llama"), device="cpu"), 2)
    save_lora(tuned, load_tokenizer(checkpoint("llama")), tmp_path / "a")
    with pytest.raises(ModelMismatch, match="holds no head that scores"):
        load_scorer(tmp_path / "a", device="cpu")


def test_the_adapter_of_a_policy_becomes_part_of_its_scorer(checkpoint):
    from gnomon.core.models import add_lora

    tuned = add_lora(load_model(checkpoint("llama"), device="cpu"), 2)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
        ids = torch.tensor([ROWS[0]])
        hidden = backbone(new_scorer(tuned, Rng(0)))(input_ids=ids).last_hidden_state
        wanted = tuned(input_ids=ids, output_hidden_states=True).hidden_states[-1]
        torch.testing.assert_close(hidden, wanted, atol=1e-5, rtol=1e-5)


def test_a_classifier_that_pools_has_a_value_for_texts_alone(tmp_path):
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=60,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=1,
    )
    torch.manual_seed(0)
    BertForSequenceClassification(config).save_pretrained(tmp_path / "b")
    model = load_scorer(tmp_path / "b", device="cpu")
    with torch.no_grad():
        values = text_scores(model, pad(ROWS, 0, "right"))
        for row, value in zip(ROWS, values, strict=True):
            torch.testing.assert_close(
                model(input_ids=torch.tensor([row])).logits[0, 0], value, atol=1e-5, rtol=1e-5
            )
    with pytest.raises(ModelMismatch, match="pools a text"):
        token_scores(model, pad(ROWS, 0))


def test_texts_that_a_scorer_cannot_read_are_named(checkpoint):
    model, tokenizer = scorer_of(checkpoint, "gpt2"), load_tokenizer(checkpoint("gpt2"))
    for rows in ([[5], []], [[5], [5] * (model.config.n_positions + 1)]):
        with pytest.raises(BadInput, match="Text 1 has"):
            score_rows(model, tokenizer, rows)


def test_the_folder_of_a_scorer_is_whole(checkpoint, tmp_path):
    save_scorer(scorer_of(checkpoint, "opt"), load_tokenizer(checkpoint("opt")), tmp_path / "s")
    shutil.move(tmp_path / "s", tmp_path / "t")
    assert load_scorer(tmp_path / "t", device="cpu").config.num_labels == 1
