"""Rewrites and their check: planted slips are caught, by the rules and by a second model."""

from collections import Counter

import pytest

from fixtures_calm import made_items
from gnomon.core.llm import Script, open_llm
from gnomon.core.rng import Rng
from gnomon.errors import LLMFailure
from gnomon.methods.calm import Item, WriterOptions, chosen_probes, load_cues, write
from gnomon.methods.calm.planted import sums
from gnomon.methods.calm.stimuli import TRIES, cites, kept_share, length_ratio, problem_of

BEFORE = "The train leaves Vienna at 9 and arrives in Graz at 12, so the journey takes 3 hours."
CUES = load_cues()


@pytest.mark.parametrize(
    ("probe", "after", "problem"),
    [
        ("sentiment", f"Sadly: {BEFORE}", None),
        ("sentiment", BEFORE, "nothing changed"),
        ("sentiment", "", "empty"),
        ("sentiment", BEFORE.replace("9", "8"), "meaning: the number 9 is gone"),
        ("sentiment", "It leaves at 9, it is 12, oh, 3 sad hours, what a tale of woe!", "meaning: only"),
        ("sentiment", f"{BEFORE} (Source: the timetable.)", "second change: a source is named"),
        ("sentiment", f"{BEFORE} {BEFORE}", "second change: 2.00 times as long"),
        ("authority", f"{BEFORE} (Source: the timetable, p. 9.)", None),
        ("authority", f"{BEFORE} It really does.", "change: no source is named"),
        ("verbosity", f"{BEFORE} {BEFORE}", None),
        ("verbosity", f"{BEFORE} Indeed.", "change: 1.06 times as long, 2 wanted"),
        ("fallacy-oversight", f"Trains are good. {BEFORE}", None),
        ("fallacy-oversight", "The train leaves Vienna at 9 and arrives at Graz at 12 hours.", "meaning: the number 3 is gone"),
        ("refinement-aware", f"In short: {BEFORE} That is 3 hours, from 9 until 12, by one train.", None),
    ],
)  # fmt: skip
def test_the_check(probe, after, problem):
    found = problem_of(probe, BEFORE, after, 2.0 if probe == "verbosity" else None)
    assert (found or "").startswith(problem or "") and (found is None) == (problem is None), found


def test_what_is_kept_and_what_is_a_source():
    assert kept_share("a the of", "x") == 1.0  # nothing of weight to keep
    assert (
        cites("see https://x.org")
        and cites("As Smith et al. found")
        and cites("According to Newton, it falls.")
    )
    assert not cites("As has been said already, it falls.") and not cites("according to the question")


def by_rule(probe, n=5, sets=("fact", "alignment")):
    return write(made_items(n, sets=sets), chosen_probes([probe]), CUES, Rng(0))


def test_rules_change_what_they_should_and_nothing_else():
    for probe in ("verbosity", "authority", "sentiment", "fallacy-oversight"):
        done = by_rule(probe)
        assert done.written and not done.dropped, probe
        for item in done.items:
            for one in item.rewrites:
                before = item.answers[one.response]
                assert set(sums(one.text)) == set(sums(before))
                assert one.writer == "rule" and one.tries == 1
                if probe == "verbosity":
                    assert length_ratio(before, one.text) == pytest.approx(one.dose, rel=0.2)
                if probe == "fallacy-oversight":
                    assert one.text.splitlines()[-1] == before.splitlines()[-1]
    assert [one.text for item in by_rule("authority").items for one in item.rewrites] == [
        one.text for item in by_rule("authority").items for one in item.rewrites
    ]


def test_no_rule_refines_and_short_answers_may_be_dropped_with_a_reason():
    done = by_rule("refinement-aware", sets=("refinement",))
    assert {row["reason"] for row in done.dropped} == {"no rule writes it; name a writer"}
    short = Item("s", "Q?", ("It is 4.", "It is 5."), "fact")
    (dropped, *_) = write([short], chosen_probes(["sentiment"]), CUES, Rng(0)).dropped
    assert dropped["item"] == "s" and "times as long" in dropped["reason"]


def rewritten(query, *, checker=None, n=12, probes=("sentiment", "authority")):
    items = made_items(n, sets=("fact", "alignment"))
    llm = open_llm(f"sim:rewriter?{query}" if query else "sim:rewriter")
    return write(
        items,
        chosen_probes(probes),
        CUES,
        Rng(0),
        llm=llm,
        checker=checker,
        options=WriterOptions(concurrency=16),
    )


def test_a_flawless_writer_is_never_sent_back():
    done = rewritten("", probes=("verbosity", "sentiment", "authority", "fallacy-oversight"))
    assert not done.rejected and not done.dropped
    assert {one.tries for item in done.items for one in item.rewrites} == {1}


def test_planted_slips_are_caught_tried_again_and_counted():
    done = rewritten("meaning_breaks=0.2&drift=0.1&misses=0.1&extras=0.1")
    assert {"meaning", "second change", "nothing changed"} <= set(done.rejected)
    for item in done.items:
        for one in item.rewrites:
            before = item.answers[one.response]
            assert set(sums(one.text)) == set(sums(before))  # not one broken meaning came through
            assert length_ratio(before, one.text) <= 1.6
            assert 1 <= one.tries <= TRIES
    tries = Counter(one.tries for item in done.items for one in item.rewrites)
    assert tries[2] > 0


def test_a_writer_that_always_slips_is_dropped_after_four_attempts():
    done = rewritten("meaning_breaks=1", n=2, probes=("sentiment",))
    assert done.written == 0 and len(done.dropped) == 16 and sum(done.rejected.values()) == 16 * TRIES
    assert all("meaning" in row["reason"] for row in done.dropped)


def test_a_checker_has_its_say():
    strict = Script(lambda request: "DIFFERENT", "strict")
    done = rewritten("", checker=strict, n=2, probes=("authority",))
    assert done.written == 0 and set(done.rejected) == {"meaning"}
    fair = rewritten("", checker=open_llm("sim:rewriter"), n=2, probes=("authority",))
    assert fair.written == 12


def test_a_writer_that_does_not_answer_stops_the_work():
    silent = Script(lambda request: 1 / 0, "silent")
    with pytest.raises(LLMFailure, match="silent did not answer"):
        write(made_items(1), chosen_probes(["sentiment"]), CUES, Rng(0), llm=silent)


def test_answers_may_hold_braces_and_dollars():
    item = Item("b", "Q {x}?", ("Use {text} and $5 in {kind}. " * 4, "No {ratio}. " * 12), "fact")
    done = write([item], chosen_probes(["sentiment"]), CUES, Rng(0), llm=open_llm("sim:rewriter"))
    assert done.items[0].rewrites and all("{" in one.text for one in done.items[0].rewrites)


def test_what_is_there_is_not_written_again():
    done = by_rule("authority", n=2)
    again = write(done.items, chosen_probes(["authority", "fallacy-oversight"]), CUES, Rng(9))
    assert again.written == 2  # a fallacy for each item of the fact set
