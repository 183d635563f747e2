"""One table of what counts as which number, and of words that are found as a whole."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.core.text.matching import answered_number, number_of, number_spans, spans_of, value_of

ANSWERS = [
    ("The total is 72 clips, altogether.", 72),  # omlx 3484
    (r"so the price is \boxed{$9{,}500}", 9500),  # opencompass 2647
    ("8,000", 8000),
    ("It costs $1,234.50.", Fraction(2469, 2)),
    ("first 3, then 4\n#### 18", 18),
    ("#### 1,000\nThat was 7 steps.", 1000),
    (r"\boxed{12} and not 13", 12),
    (r"\boxed{\frac{1}{2}}", Fraction(1, 2)),
    (r"\boxed{3 \text{ apples}}", 3),
    ("1/2", Fraction(1, 2)),
    (".50", Fraction(1, 2)),
    ("0.5", Fraction(1, 2)),
    ("-5 degrees", -5),
    ("\u22127", -7),
    ("about 25%", 25),
    ("2+3=5", 5),
    ("€ 40", 40),
    ("x2 and GPT4", None),
    ("no number", None),
    ("1/0", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "value"), ANSWERS)
def test_the_number_an_answer_gives(text, value):
    assert answered_number(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,000", 1000),
        ("18.0", 18),
        ("18 ducks", None),
        ("$8,000.00", 8000),
        ("50%", 50),
        ("1, 2", None),
        ("12,34", None),
    ],
)
def test_the_value_of_a_text_that_is_a_number(text, value):
    assert value_of(text) == value


@given(st.integers(-(10**9), 10**9))
def test_a_number_is_itself_however_it_is_written(n):
    for written in (str(n), f"{n:,}", f"{n}.00", f"The answer is {n:,}.", rf"\boxed{{{n}}}", f"#### {n}"):
        assert answered_number(written) == n


def test_the_search_of_texts_is_that_of_before():
    assert number_of("1,000") == 1000.0 and number_of("1/2") is None and number_of(".5") is None
    assert number_spans(18, "9 * 2 = 18, that is 18.00 and not 180") == [(8, 10), (20, 25)]
    assert spans_of("us", "Because US forces") == [(8, 10)]
