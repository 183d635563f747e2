"""Mitigations by hand, and what they buy where the bias is planted."""

import pytest

from fixtures_calm import made_items, simulated
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig
from gnomon.methods.calm import (
    FunctionJudge,
    Panel,
    Trial,
    analyze,
    audit,
    chosen_probes,
    load_cues,
    mitigated,
    write,
)
from gnomon.methods.calm.judging import TIE, cut_to_shortest, turned, without_sources


def trial(*answers, **more):
    answers = answers or ("a", "b")
    return Trial("i", "alignment", "plain", "", 0, tuple(range(len(answers))), "What?", answers, **more)


FIRST = FunctionJudge(lambda t: 0, "first")
LONGEST = FunctionJudge(lambda t: max(range(len(t.answers)), key=lambda i: len(t.answers[i])), "longest")


def test_swap_and_agree():
    assert mitigated(FIRST, "swap").judge([trial()])[0].slot == TIE
    (steady,) = mitigated(LONGEST, "swap").judge([trial("a", "bb")])
    assert steady.slot == 1
    silent = FunctionJudge(lambda t: None, "silent")
    assert mitigated(silent, "swap").judge([trial()])[0].status == "unparsed"


def test_rotate_and_vote():
    wrapped = mitigated(LONGEST, "rotate")
    assert wrapped.judge([trial("a", "bbb", "cc")])[0].slot == 1
    assert mitigated(FIRST, "rotate").judge([trial("a", "b", "c")])[0].slot == TIE
    assert turned(trial("a", "b", "c", names=("x", "y", "z")), 1).names == ("y", "z", "x")
    assert turned(trial("a", "b", "c"), 4).slots == (1, 2, 0)


def test_names_notes_sources_and_lengths():
    told = []
    judge = FunctionJudge(lambda t: told.append(t) or 0, "ear")
    asked = trial("Yes.\n(Source: a book.)", "No.", names=("GPT-4", "x"), note="90%", cued=0)
    for name in ("blind", "strip", "length"):
        mitigated(judge, name).judge([asked])
    blind, strip, length = told
    assert blind.names == () and blind.note == "90%"
    assert strip.answers == ("Yes.", "No.") and strip.note == ""
    assert length.answers == ("Yes.", "No.")
    assert without_sources("(Source: all of it.)") == "(Source: all of it.)"
    assert cut_to_shortest(("One two three. Four five.", "A b c.")) == ("One two three.", "A b c.")
    assert cut_to_shortest(("One very long first sentence. Two.", "A.")) == (
        "One very long first sentence.",
        "A.",
    )


def test_scores_pass_through():
    judge = FunctionJudge(lambda t: 7 if t.kind == "score" else 0, "seven")
    for name in ("swap", "rotate", "blind"):
        assert mitigated(judge, name).judge([trial("x", kind="score")])[0].score == 7


def test_panels_vote():
    second = FunctionJudge(lambda t: 1, "second")
    assert Panel([FIRST, second, second]).judge([trial()])[0].slot == 1
    assert Panel([FIRST, second]).judge([trial()])[0].slot == TIE
    numbers = [FunctionJudge(lambda t, n=n: n, str(n)) for n in (4, 8)]
    assert Panel(numbers).judge([trial("x", kind="score")])[0].score == 6
    with pytest.raises(BadConfig, match="two judges or more"):
        Panel([FIRST])


def test_unknown_and_misplaced():
    with pytest.raises(BadConfig, match=r'no mitigation "swapp"\. Did you mean "swap"'):
        mitigated(FIRST, "swapp")
    with pytest.raises(BadConfig, match="asked in words"):
        mitigated(FIRST, "detect")


@pytest.fixture(scope="module")
def items():
    return write(made_items(60, sets=("alignment",)), chosen_probes(["authority"]), load_cues(), Rng(0)).items


def profile_of(judge, items, *names):
    (profile,) = analyze(audit(judge, items, chosen_probes(names)))
    return profile


def test_what_they_buy(items):
    judge = simulated("position=3")
    before = profile_of(judge, items, "position").cells[0]
    after = profile_of(mitigated(judge, "swap"), items, "position").cells[0]
    assert before.more["first slot"][0] > 0.7
    assert after.more["first slot"][1] < 0.5 < after.more["first slot"][2]
    fan = simulated("authority=3&bandwagon=3")
    plain = profile_of(fan, items, "authority", "bandwagon").headline()
    stripped = profile_of(mitigated(fan, "strip"), items, "authority", "bandwagon").headline()
    for name in ("authority", "bandwagon"):
        assert plain[name].shift[1] > 0.1
        assert abs(stripped[name].shift[0]) < 0.1


def test_asking_first_detects_at_its_rate(items):
    judge = simulated("suspicion=0.84&bandwagon=3")
    wary = mitigated(judge, "detect")
    plain, warned = profile_of(judge, items, "bandwagon"), profile_of(wary, items, "bandwagon")
    yes, asked = wary.suspected["bandwagon"]
    assert asked == 60 * 8 and yes / asked == pytest.approx(0.84, abs=0.06)
    assert wary.suspected["plain"][0] == 0
    assert warned.headline()["bandwagon"].shift[0] < plain.headline()["bandwagon"].shift[0] / 2
