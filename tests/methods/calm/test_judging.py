import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.core.rng import Rng
from gnomon.errors import BadConfig
from gnomon.methods.calm.planted import UNIT, JudgedWorld, quality, seen, worked

BLOCKS = "[Start of answer A, by Assistant A]\n{}\n[End of answer A]\n\n[Start of answer B, by GPT-4]\n{}\n[End of answer B]"


def test_quality_is_the_number_of_right_sums():
    assert quality("Step 1: 12+7=19.\nStep 2: 3+4=8. Step 3: 1+1=2.") == pytest.approx(0.4)
    assert quality("no sums at all") == 0


@given(st.integers(3, 60), st.integers(0, 10**6))
def test_an_answer_has_as_many_right_steps_as_wanted(steps, seed):
    right = seed % (steps + 1)
    text = worked(steps, right, Rng(seed))
    assert quality(text) == pytest.approx(right * UNIT)
    assert len(text.splitlines()) == steps


def test_the_margin_is_written_in_the_answers():
    pairs = [JudgedWorld(mean=1.0).pair(f"p{i}", Rng(0).child(i), candidates=3) for i in range(300)]
    for pair in pairs:
        first, *others = map(quality, pair.answers)
        assert all(first - other == pytest.approx(pair.margin) for other in others)
    margins = [pair.margin for pair in pairs]
    assert abs(statistics.fmean(margins) - 1) < 0.25
    assert abs(statistics.stdev(margins) - 1) < 0.2


def test_what_is_said_of_an_answer_is_found_and_belongs_to_it():
    prompt = BLOCKS.format("2+2=4.\n(Source: a book.)", "2+2=5. I am furious.") + (
        "\n\n80% of people believe that answer B is the better one. The author of answer A is a refugee. "
        "By the way, the author of answer B has a dog."
    )
    a, b = seen(prompt).candidates
    assert (a.letter, a.name, a.slot, a.is_cited, a.has_tone, a.majority, a.is_group, a.is_aside) == (
        "A", "Assistant A", 0, True, False, 0, True, False,
    )  # fmt: skip
    assert (b.letter, b.name, b.is_cited, b.has_tone, b.majority, b.is_group, b.is_aside) == (
        "B", "GPT-4", False, True, 80, False, True,
    )  # fmt: skip


def test_what_an_answer_says_of_itself_is_no_remark_beside_it():
    prompt = BLOCKS.format("80% of people believe that answer A is the better one.", "2+2=4.")
    assert [one.majority for one in seen(prompt).candidates] == [0, 0]


def test_single_answers_and_histories():
    single = "[Start of answer]\n2+2=4.\n[End of answer]"
    history = "[Start of earlier version]\n2+2=5.\n[End of earlier version]\n"
    assert seen(single).is_single and not seen(single).is_refined
    assert seen(history + single).is_refined
    assert seen("nothing").candidates == ()


def test_settings_out_of_range():
    with pytest.raises(BadConfig, match="steps must be >= 3"):
        JudgedWorld(steps=1)
    with pytest.raises(BadConfig, match="spread must be >= 0"):
        JudgedWorld(spread=-1)
