"""Stop words, stems and the languages that have both."""

import pytest
from nltk.stem.porter import PorterStemmer

from gnomon.core.text import check_language, stemmer, stopwords, stopwords_name
from gnomon.core.text.language import LANGUAGES
from gnomon.errors import BadConfig


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_stop_words_and_a_stemmer(language):
    words = stopwords(language)
    assert len(words) > 50
    assert all(word == word.lower().strip() and word for word in words)
    assert isinstance(stemmer(language)("abcdefg"), str)


def test_english_stop_words_carry_grammar_and_no_topic():
    words = stopwords()
    assert {"the", "of", "don't", "it's", "would", "and", "t"} <= words
    assert not words & {"budget", "vote", "council", "new", "first", "million"}


def test_english_stems_are_those_of_rouge():
    porter = PorterStemmer()
    for word in ("meetings", "budgeted", "riders", "relational"):
        assert stemmer()(word) == porter.stem(word)
    assert stemmer()("was") == "was"  # ROUGE leaves words of up to three letters


def test_other_languages_have_their_own_stems():
    assert stemmer("german")("häuser") == stemmer("german")("häusern") == "haus"
    assert "und" in stopwords("german")


def test_the_name_of_a_list_changes_with_its_words():
    names = {stopwords_name(language) for language in LANGUAGES}
    assert len(names) == len(LANGUAGES)
    assert stopwords_name("german").startswith("yake-german-")


def test_a_language_that_cannot_be_cut_into_words_is_refused():
    with pytest.raises(BadConfig, match=r"japanese.*without spaces"):
        check_language("japanese")
    with pytest.raises(BadConfig, match=r'"englisch".*Did you mean "english"'):
        stopwords("englisch")
