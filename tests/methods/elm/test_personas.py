"""Personas and passages: package data, users' files, alignment."""

import pytest

from fixtures_elm import small_tokenizer
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.elm import Fluent, read_personas
from gnomon.methods.elm.texts import (
    concept_text,
    cut,
    encode_fluent,
    join,
    prefix_ids,
    read_fluent,
    read_passages,
    start_ids,
    text_mask,
    topics,
)


@pytest.mark.parametrize("kind", ["deflecting", "plain"])
def test_ten_of_each_and_all_name_the_concept(kind):
    found = read_personas("potions, spells", kind)
    assert len(found.expert) == len(found.novice) == 10
    assert all("potions, spells" in text and "{" not in text for text in (*found.expert, *found.novice))
    assert len({*found.expert, *found.novice}) == 20


def test_plain_novices_do_not_change_the_subject():
    plain, usual = read_personas("x", "plain"), read_personas("x")
    assert plain.expert == usual.expert
    assert max(map(len, plain.novice)) < min(map(len, usual.novice))


def test_twenty_topics():
    assert len(set(topics())) == 20


def test_known_concepts_stand_for_their_keywords():
    assert concept_text("bio").count(",") == 6
    assert concept_text(["cyber"]).startswith("exploit development, malware")
    assert concept_text("bio,cyber") == f"{concept_text('bio')}, {concept_text('cyber')}"


def test_a_user_s_file(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("expert: ['knows {concept}']\nnovice: ['knows no {concept}']\n")
    assert read_personas(["a", "b"], str(file)).expert == ("knows a, b",)
    file.write_text("expert: ['x']\n")
    with pytest.raises(BadInput, match=r'mine.yaml: "novice" must be a list of sentences'):
        read_personas("a", str(file.rename(tmp_path / "other-mine.yaml")))
    bad = tmp_path / "bad.yaml"
    bad.write_text("expert: [\n")
    with pytest.raises(BadInput, match=r"bad.yaml, line \d: not YAML"):
        read_personas("a", str(bad))
    with pytest.raises(BadInput, match="cannot be read"):
        read_personas("a", str(tmp_path / "none.yaml"))


def test_a_concept_needs_a_keyword():
    with pytest.raises(BadConfig, match="concept must name at least one keyword"):
        concept_text(" , ")


def test_joined_ids_keep_the_text_s_own(tiny_tokenizer):
    """Tokenised together, the border would merge; joined as ids, the text is the same behind every prefix."""
    text = tiny_tokenizer("return a + b", add_special_tokens=False)["input_ids"]
    prefixes = [prefix_ids(tiny_tokenizer, words) for words in ("def", "Write a function that retu")]
    batch, width = join(prefixes, [text, text])
    assert width == len(text)
    assert batch.input_ids[:, -width:].tolist() == [text, text]
    assert batch.mask[:, -width:].all()
    assert batch.position_ids[0, -width:].tolist() == list(
        range(len(prefixes[0]), len(prefixes[0]) + len(text))
    )


def test_one_begin_of_text_token_in_front():
    tokenizer = small_tokenizer()
    assert start_ids(tokenizer) == []
    from tokenizers.processors import TemplateProcessing

    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    ids = prefix_ids(tokenizer, "text of expert in zor :")
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[0] == tokenizer.bos_token_id


def test_padding_is_on_the_left_of_prefixes_and_on_the_right_of_texts():
    batch, width = join([[1], [2, 3], []], [[7, 8, 9], [7], [8, 8]], pad_id=0)
    assert batch.input_ids.tolist() == [[0, 1, 7, 8, 9], [2, 3, 7, 0, 0], [0, 0, 8, 8, 0]]
    assert batch.mask[:, -width:].tolist() == text_mask([[7, 8, 9], [7], [8, 8]]).tolist()


def test_passages_are_cut_and_short_ones_left_out(tmp_path):
    assert cut(["a" * 800, "b" * 49, " "], max_chars=700, min_chars=50) == ["a" * 700]
    assert cut(["x", "", " "], min_chars=0) == ["x"]
    file = tmp_path / "texts.jsonl"
    file.write_text('{"text": "short"}\n')
    with pytest.raises(BadInput, match="holds 1 texts and none of at least 50 characters"):
        read_passages(str(file))
    file.write_text('{"body": "short"}\n')
    with pytest.raises(BadInput, match=r'texts.jsonl, line 1: field "text" is missing'):
        read_passages(str(file))


def test_fluent_texts_learn_their_continuation_alone(tmp_path):
    tokenizer = small_tokenizer()
    found = encode_fluent(tokenizer, [Fluent("z1 is", " zv1 . the"), Fluent("the cat", "")])
    assert [(len(ids), first) for ids, first in found] == [(5, 2)]
    with pytest.raises(BadInput, match="None of 1 fluent texts"):
        encode_fluent(tokenizer, [Fluent("z1 is zv1", " the")], 3)
    file = tmp_path / "fluent.jsonl"
    file.write_text('{"prompt": "a"}\n')
    with pytest.raises(BadInput, match=r'fluent.jsonl, line 1: field "continuation" is missing'):
        read_fluent(file)
