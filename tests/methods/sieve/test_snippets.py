import itertools
import re
import time
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnomon.methods.sieve.choosing import cut, pieces_of, snippets_of


def words(text):
    return [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]


def sparse(text):
    """Words alone: whatever else there is counts for nothing."""
    return [match.span() for match in re.finditer(r"\w+", text)]


def bytes_of(text):
    """Byte-level tokens: as many as the character has bytes, all on the same span."""
    return [(i, i + 1) for i, char in enumerate(text) for _ in char.encode("utf-8", "surrogatepass")]


def spaced(text):
    """Tokens that carry the space before them, as byte-pair encodings do."""
    return [match.span() for match in re.finditer(r"\s?\w+|\s+|[^\w\s]", text)]


def pieces(text, limit, tokens=words):
    return [text[start:end] for start, end in cut(text, tokens(text), limit)]


@dataclass
class Doc:
    doc_id: str
    text: str


def test_pieces_end_at_paragraphs_then_sentences_then_words_then_tokens():
    assert pieces("a b c.\n\nd e f.\n\ng h i.", 8) == ["a b c.\n\nd e f.", "g h i."]
    assert pieces("One two. Three four? Five six seven eight.", 6) == [
        "One two. Three four?",
        "Five six seven eight.",
    ]
    assert pieces("one two three four five", 2) == ["one two", "three four", "five"]
    assert pieces("abcdefg", 3, bytes_of) == ["abc", "def", "g"]


def test_a_quoted_sentence_keeps_its_closing_marks_and_other_scripts_have_sentences():
    assert pieces('He said "no." She went home.', 7) == ['He said "no."', "She went home."]
    assert pieces("我走。你来。他看。", 7, lambda t: [(i, i + 1) for i in range(len(t))]) == [
        "我走。你来。",
        "他看。",
    ]


def test_what_fits_stays_whole_and_white_space_is_nothing():
    assert pieces("  one two  ", 2) == ["one two"]
    assert pieces(" \n\t ", 3) == []
    assert pieces("", 3) == []
    assert pieces("?! no tokens here", 1, lambda text: []) == ["?! no tokens here"]


def test_a_character_of_more_tokens_than_the_limit_is_a_piece_of_its_own():
    assert pieces("\N{PILE OF POO}ab", 2, bytes_of) == ["\N{PILE OF POO}", "ab"]


def test_snippets_name_their_document_and_place():
    first, second = snippets_of(Doc("d1", "one two\n\nthree"), words, 2)
    assert (first.snippet_id, first.doc_id, first.text) == ("d1:0-7", "d1", "one two")
    assert (second.snippet_id, second.start, second.end) == ("d1:9-14", 9, 14)


texts = st.text(alphabet=st.sampled_from("ab é。.!?\n\t \u2028\N{PILE OF POO}'"), max_size=120)
tokenizers = st.sampled_from([words, sparse, spaced, bytes_of])


@settings(max_examples=300, deadline=None)
@given(text=texts, limit=st.integers(4, 12), tokens=tokenizers)
def test_nothing_is_lost_nothing_too_long_and_cutting_again_changes_nothing(text, limit, tokens):
    spans = tokens(text)
    found = cut(text, spans, limit)
    assert "".join("".join(text[a:b].split()) for a, b in found) == "".join(text.split())
    assert all(a < b for a, b in found) and [a for a, _ in found] == sorted(a for a, _ in found)
    assert all(after >= end for (_, end), (after, _) in itertools.pairwise(found))
    for a, b in found:
        piece = text[a:b]
        assert piece == piece.strip()
        first = [e - len(text[s:e].lstrip() or text[s:e]) for s, e in spans]
        assert sum(a <= s < b for s in first) <= limit
        inside = [(s - a, e - a) for (s, e), at in zip(spans, first, strict=True) if a <= at < b]
        assert cut(piece, [(max(s, 0), min(e, b - a)) for s, e in inside], limit) == [(0, b - a)]


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_any_limit_ends(limit):
    text = "Every word. Counts,\n\nalways \N{PILE OF POO}!" * 20
    for tokens in (words, spaced, bytes_of):
        assert "".join("".join(p.split()) for p in pieces(text, limit, tokens)) == "".join(text.split())


def test_pitfall_10_the_student_s_own_tokenizer_finds_every_snippet_within_its_limit(tiny_tokenizer):
    def spans_of(text):
        return tiny_tokenizer(text, return_offsets_mapping=True)["offset_mapping"]

    text = "for i in range(10):\n    print(i, i * i)\n\nWrite a function that keeps numbers. " * 6
    snippets = snippets_of(Doc("d", text), spans_of, 16)
    assert len(snippets) > 5
    assert all(len(tiny_tokenizer(snippet.text)["input_ids"]) <= 16 for snippet in snippets)


@pytest.mark.parametrize("run", [".", "\n", "' ", ".'", "x", "\N{PILE OF POO}"])
def test_long_runs_of_anything_cost_no_more_than_other_text(run):
    text = f"begin {run * 50_000}x {'word ' * 20}end"
    began = time.perf_counter()
    for tokens in (bytes_of, sparse):
        cut(text, tokens(text), 5)
    assert time.perf_counter() - began < 60  # an attempt at every place would take many minutes


@given(text=texts, limit=st.integers(4, 40), tokens=tokenizers)
def test_short_texts_are_cut_without_looking_for_tokens_and_come_out_the_same(text, limit, tokens):
    assert pieces_of(text, tokens, limit) == cut(text, tokens(text), limit)
