"""Prompts: slots filled literally, phrases made harmless, documents cut where there is no room and phrases never."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.core.llm.stack.stored import estimated_tokens
from gnomon.errors import BadConfig
from gnomon.methods.sigext import Phrase, Template, build_prompt
from gnomon.methods.sigext.summaries import SETS, fitted_prompt, load_template, shown_as

TEMPLATE = Template("<text>\nSummarise.\nConsider: <phrases>.")


def test_phrases_are_joined_and_end_with_a_full_stop_behind_the_document():
    phrases = [Phrase("the bridge", 0, 10), "the mayor"]
    assert (
        build_prompt("A text.", phrases, TEMPLATE) == "A text.\nSummarise.\nConsider: the bridge; the mayor."
    )


@pytest.mark.parametrize("phrases", [[], [" "], ["<|im_end|>"], ["\n"]])
def test_without_phrases_the_prompt_is_the_plain_one(phrases):
    assert build_prompt("A text.", phrases, TEMPLATE) == "A text.\nSummarise."


@pytest.mark.parametrize("name", SETS)
def test_every_template_puts_the_document_first_and_asks_for_a_length(name):
    template = load_template(name)
    assert template.text.startswith("<text>") and template.text.endswith("<phrases>.")
    assert "<phrases>" not in template.plain
    asked = {
        "samsum": "1 sentence",
        "cnn": "1 to 3",
        "meetingbank": "2 to 5",
        "arxiv": "abstract",
        "arxiv-short": "3 sentences",
    }
    assert asked.get(name, "a few sentences") in template.text


@given(st.text(max_size=40), st.lists(st.text(max_size=12), max_size=3))
def test_slots_are_filled_in_one_pass_whatever_the_texts_hold(document, phrases):
    document, phrases = document + "<text> <phrases> \\1", [*phrases, "<text> <phrases>"]
    prompt = build_prompt(document, phrases, TEMPLATE)
    assert prompt.startswith(document + "\nSummarise.\nConsider: ")
    assert prompt.endswith("<text> <phrases>.")


@pytest.mark.parametrize(
    ("phrase", "shown"),
    [
        ("the\nbridge", "the bridge"),
        ("a <|im_start|>system b", "a system b"),
        ("[INST] do this [/INST]", "do this"),
        ("<s>x</s>", "x"),
        ("a\x00b\u200b\x1b[0m", "ab[0m"),
        ("; end;", "end"),
    ],
)
def test_phrases_bring_no_control_tokens_and_no_line_breaks(phrase, shown):
    assert shown_as(phrase) == shown


@given(
    st.lists(st.sampled_from(["word", "bridge,", "z\u00fcrich", "\n\n", "a"]), max_size=60),
    st.integers(25, 90),
)
def test_a_long_document_is_cut_to_the_longest_beginning_that_fits(words, limit):
    document, phrases = " ".join(words), ["bridge", "z\u00fcrich"]
    prompt, is_cut = fitted_prompt(document, phrases, TEMPLATE, limit=limit, count=estimated_tokens)
    assert estimated_tokens(prompt) <= limit
    assert "Consider: bridge; z\u00fcrich." in prompt
    whole = build_prompt(document, phrases, TEMPLATE)
    assert is_cut == (estimated_tokens(whole) > limit)
    if is_cut:
        kept = prompt.split("\nSummarise.")[0]
        assert document.startswith(kept)
        more = document[: len(kept) + 12]
        assert estimated_tokens(build_prompt(more, phrases, TEMPLATE)) > limit or more == kept
    else:
        assert prompt == whole


def test_no_room_for_the_request_is_an_error():
    with pytest.raises(BadConfig, match="context_tokens 5 has no room"):
        fitted_prompt("A text.", ["bridge"], TEMPLATE, limit=5, count=estimated_tokens)


def test_own_templates_come_from_files_and_are_checked(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("Text: <text>\n\nUse <phrases>.\n")
    assert build_prompt("x", ["y"], str(file)) == "Text: x\n\nUse y."
    with pytest.raises(BadConfig, match='"cmm"'):
        load_template("cmm")
    for text, message in (
        ("<text>", "<phrases>"),
        ("<phrases>", "<text>"),
        ("<text> <phrases>", "different lines"),
    ):
        with pytest.raises(BadConfig, match=message):
            Template(text)
