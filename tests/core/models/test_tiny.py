import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fixtures_models import CAUSAL, SEQ2SEQ, TEXT
from gnomon.core.models import new_llama, tiny_causal, train_bpe
from gnomon.core.rng import Rng
from gnomon.errors import BadInput


@given(text=st.text())
def test_any_text_survives_the_tokenizer(tiny_tokenizer, text):
    ids = tiny_tokenizer(text)["input_ids"]
    if not any(special in text for special in tiny_tokenizer.all_special_tokens):
        assert tiny_tokenizer.decode(ids) == text


def test_the_tokenizer_merges_what_is_frequent_and_adds_nothing_by_itself():
    tokenizer = train_bpe(["abab abab abab"], 262)
    assert [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id] == [0, 1, 2]
    # By hand: the most frequent pair is "ab" (6), then "abab" (3), then " abab" (2); ids 259, 260 and 261.
    assert tokenizer("abab abab")["input_ids"] == [260, 261]
    assert train_bpe(["abab abab abab"], 262).get_vocab() == tokenizer.get_vocab()


def test_a_vocabulary_below_the_bytes_is_refused():
    with pytest.raises(BadInput, match="at least 259 ids; got 100"):
        train_bpe(TEXT, 100)


@pytest.mark.parametrize("name", [*CAUSAL, *SEQ2SEQ])
def test_tiny_models_are_tiny_real_classes(name, checkpoint, handle_of):
    model = handle_of(name).model
    family = name.split("-")[0].removesuffix("_text")
    assert type(model).__module__ == f"transformers.models.{family}.modeling_{family}"
    assert sum(p.numel() for p in model.parameters()) < 100_000
    assert (checkpoint(name) / "model.safetensors").is_file()


def test_an_unknown_family_is_named_with_the_nearest(tiny_tokenizer, tmp_path):
    with pytest.raises(BadInput, match=r'"lama".*Did you mean "llama"'):
        tiny_causal("lama", tiny_tokenizer, tmp_path)


def test_a_new_llama_depends_on_its_generator_alone(tiny_tokenizer):
    def make(seed):
        return new_llama(tiny_tokenizer, 32, 1, 2, 64, Rng(seed))

    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = make(0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = make(0), make(1)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)
    assert first.lm_head.weight is first.model.embed_tokens.weight
    assert first.config.intermediate_size == 96  # 8/3 * 32 = 85.3, up to a multiple of 32
