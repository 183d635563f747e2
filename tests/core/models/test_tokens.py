import pytest
import torch

from fixtures_models import FAMILIES, TEXT
from gnomon.core.models import add_token, load_model, load_tokenizer, train_bpe
from gnomon.errors import ModelMismatch

TOKEN = "<|diff|>"
EDIT = "x\n<|diff|>@@ -0,0 +1 @@\n+y\n<|diff|>\n<|diff|>"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_token_is_one_ordinary_id_and_the_model_knows_it_after_reloading(family, checkpoint, tmp_path):
    model, tokenizer = load_model(checkpoint(family)), load_tokenizer(checkpoint(family))
    was_tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert was_tied == (family in ("gpt2", "gemma2"))
    index = add_token(model, tokenizer, TOKEN)
    ids = tokenizer(EDIT)["input_ids"]
    assert (index, ids.count(index)) == (300, 3)
    assert tokenizer.decode(ids, skip_special_tokens=True) == EDIT
    into, out = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert (into is out) == was_tied
    for weight in (into, out):
        assert weight.shape == (301, 32)
        torch.testing.assert_close(weight[300], weight[:300].mean(0))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again, its_tokenizer = load_model(tmp_path), load_tokenizer(tmp_path)
    assert its_tokenizer(EDIT)["input_ids"] == ids
    with torch.no_grad():
        assert torch.equal(again(torch.tensor([ids])).logits, model(torch.tensor([ids])).logits)


def test_a_spare_row_is_used_before_the_embeddings_grow(checkpoint):
    folder = checkpoint("olmo", vocab_size=320)
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    assert add_token(model, tokenizer, TOKEN) == 300
    for weight in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
        assert weight.shape == (320, 32)
        torch.testing.assert_close(weight[300], weight[:300].mean(0))  # the padding rows do not count


def test_adding_twice_changes_nothing(checkpoint):
    model, tokenizer = load_model(checkpoint("llama")), load_tokenizer(checkpoint("llama"))
    index = add_token(model, tokenizer, TOKEN)
    with torch.no_grad():
        model.get_input_embeddings().weight[index] = 7.0
    assert add_token(model, tokenizer, TOKEN) == index
    assert len(tokenizer) == model.get_input_embeddings().num_embeddings == 301
    assert (model.get_input_embeddings().weight[index] == 7.0).all()


def test_a_special_token_is_refused(checkpoint):
    model, tokenizer = load_model(checkpoint("llama")), load_tokenizer(checkpoint("llama"))
    with pytest.raises(ModelMismatch, match='"</s>" is a special token'):
        add_token(model, tokenizer, "</s>")


def test_a_tokenizer_that_loses_the_token_is_refused(checkpoint):
    from tokenizers import normalizers

    tokenizer = train_bpe(TEXT, 300)
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("<|diff|>", "diff")
    tokenizer.add_tokens([TOKEN])  # normalised away before it can be matched
    model = load_model(checkpoint("llama"))
    with pytest.raises(ModelMismatch, match=r'does not keep "<\|diff\|>" as one ordinary token'):
        add_token(model, tokenizer, TOKEN)


def test_a_sentencepiece_tokenizer_takes_the_token(shared_data):
    folder = shared_data / "models" / "stories260K"
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    assert add_token(model, tokenizer, TOKEN) == 512
    assert model.get_input_embeddings().num_embeddings == 513
