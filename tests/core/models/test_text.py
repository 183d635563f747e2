import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fixtures_byte_tokens import byte_fallback
from gnomon.core.models.sampling.text import StopFinder, completion_text, encode_prompts
from gnomon.errors import BadInput


def test_prompts_may_be_texts_or_ids(tiny_tokenizer):
    ids = tiny_tokenizer("a b")["input_ids"]
    assert encode_prompts(tiny_tokenizer, ["a b", ids, ""], 64) == [ids, ids, [tiny_tokenizer.bos_token_id]]


def test_a_prompt_without_room_for_a_token_is_named(tiny_tokenizer):
    with pytest.raises(BadInput, match="Prompt 1 has 4 tokens and the model 4 positions"):
        encode_prompts(tiny_tokenizer, ["a", [5, 5, 5, 5]], 4)


def test_an_empty_prompt_needs_a_beginning(tiny_tokenizer):
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer.backend_tokenizer)
    with pytest.raises(BadInput, match="Prompt 0 is empty"):
        encode_prompts(bare, [""], None)


@given(prompt=st.text(min_size=1), text=st.text())
def test_a_completion_adds_its_own_text(tiny_tokenizer, prompt, text):
    prompt_ids, ids = tiny_tokenizer([prompt, text])["input_ids"]
    assert completion_text(tiny_tokenizer, prompt_ids, ids) == tiny_tokenizer.decode(
        ids, skip_special_tokens=True
    )


def test_a_sentencepiece_tokenizer_keeps_the_space_before_the_first_word(shared_data):
    from gnomon.core.models import load_tokenizer

    tokenizer = load_tokenizer(shared_data / "models" / "stories260K")
    ids = tokenizer("Once upon a time")["input_ids"]
    for cut in range(1, len(ids)):
        whole = tokenizer.decode(ids[:cut], skip_special_tokens=True) + completion_text(
            tokenizer, ids[:cut], ids[cut:]
        )
        assert whole == "Once upon a time"


@given(
    text=st.text(alphabet="ab\n<é", max_size=30),
    stop=st.lists(st.text(alphabet="ab\n<é", min_size=1, max_size=4)),
)
def test_stops_are_found_as_a_plain_search_finds_them(tiny_tokenizer, text, stop):
    finder = StopFinder(tiny_tokenizer, stop, len(tiny_tokenizer))
    ids = torch.tensor(tiny_tokenizer(text)["input_ids"], dtype=torch.long)
    for end in range(1, len(ids) + 1):
        so_far = tiny_tokenizer.decode(ids[:end].tolist())
        found = bool(finder.may_end(ids[end - 1 : end])) and finder.is_at_end(ids[:end])
        if found or any(s in so_far for s in stop):
            assert found
            assert finder.strip(so_far) == min((so_far.partition(s)[0] for s in stop), key=len)
            break
    assert any(s in text for s in stop) or finder.strip(text) == text


@pytest.mark.parametrize("style", ["llama", "mistral", "gemma"])
@pytest.mark.parametrize(
    "before", ["x", "\u00e9", "\u5317\u4eac", "x\U0001f642", "\U0001f469\u200d\U0001f680\U0001f642"]
)
def test_a_line_break_behind_emoji_or_cjk_ends_a_completion_of_byte_tokens(style, before):
    """The line break is a byte token as well, and a run of byte tokens decodes as a whole or not at all."""
    tokenizer = byte_fallback(style)
    finder = StopFinder(tokenizer, ["\n"], len(tokenizer))
    ids = torch.tensor(tokenizer(f" Paris {before}\n\u5317", add_special_tokens=False)["input_ids"])
    ends = [k for k in range(len(ids)) if finder.may_end(ids[k : k + 1]) and finder.is_at_end(ids[: k + 1])]
    assert tokenizer.convert_ids_to_tokens(int(ids[ends[0]])) == "<0x0A>"
    assert ends[0] == ids.tolist().index(tokenizer.convert_tokens_to_ids("<0x0A>"))


def test_most_tokens_need_no_decoding(tiny_tokenizer):
    finder = StopFinder(tiny_tokenizer, ["\n\nclass"], len(tiny_tokenizer))
    ids = torch.tensor(tiny_tokenizer("for i in range(10):")["input_ids"])
    assert not finder.may_end(ids).any()
