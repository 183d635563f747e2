"""Sentences by rule: where they end, and what holds for any text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.core.text import sentences


def cut(text):
    return [text[start:end] for start, end in sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Mr. Jones met Dr. Who. They left.", ["Mr. Jones met Dr. Who.", "They left."]),
        ("It costs 3.5 dollars, i.e. less. Good.", ["It costs 3.5 dollars, i.e. less.", "Good."]),
        ("J. R. Smith spoke. I. Then left.", ["J. R. Smith spoke.", "I.", "Then left."]),
        ('He said "Stop!" Then he left.', ['He said "Stop!"', "Then he left."]),
        ('"Why not?" she asked. He smiled.', ['"Why not?" she asked.', "He smiled."]),
        ("really? that is great! wow", ["really?", "that is great!", "wow"]),
        ("(See above.) Next one.", ["(See above.)", "Next one."]),
        ("Wait... what? Well... Fine.", ["Wait... what?", "Well...", "Fine."]),
        ("A title\n\nA line\nthat goes on.", ["A title", "A line\nthat goes on."]),
        ("Ann: hello there\nBob: hi", ["Ann: hello there", "Bob: hi"]),
        (
            "#Person1#: Good morning\n#Person2#: Morning. You?",
            ["#Person1#: Good morning", "#Person2#: Morning.", "You?"],
        ),
        ("To do:\n- eat\n- sleep\n2. rest", ["To do:", "- eat", "- sleep", "2. rest"]),
        ("これは本です。いいえ\uff01", ["これは本です。", "いいえ\uff01"]),
        ("what follows is\nnot: a speaker", ["what follows is\nnot: a speaker"]),
        ("", []),
        (" \n\n ", []),
        ("...", ["..."]),
    ],
)
def test_where_sentences_end(text, expected):
    assert cut(text) == expected


@given(st.text(alphabet='ab A.!?\n\t"():-1。', max_size=60))
def test_sentences_are_in_order_and_only_white_space_lies_between(text):
    spans = sentences(text)
    at = 0
    for start, end in spans:
        assert at <= start < end
        assert not text[at:start].strip()
        assert text[start:end] == text[start:end].strip()
        at = end
    assert not text[at:].strip()
