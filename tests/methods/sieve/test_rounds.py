"""One round: what is picked, how likely it was, and what happens when the interval runs dry."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnomon.errors import BadConfig
from gnomon.methods.sieve import Snippet
from gnomon.methods.sieve.choosing import EVERYTHING, Design, Reservoir, Round, plan


def snippets(count):
    return [Snippet(f"d{i}:0-1", f"d{i}", "x", 0, 1) for i in range(count)]


def drive(scores, labels, how, wanted=60, uniform=10, chunk=10, block=64):
    """A synchronous round over a stream of scores with known labels."""
    reservoir = Reservoir(4096)
    current = Round(1, how, wanted, uniform, reservoir, base_rate=float(np.mean(labels)))
    stream = snippets(len(scores))
    truth = dict(zip((s.snippet_id for s in stream), labels, strict=True))
    reservoir.add(scores)
    picked, pending = [], []
    for start in range(0, len(stream), block):
        part, values = stream[start : start + block], scores[start : start + block]
        at = 0
        while at < len(part) and (current.wanted_from_stream or how.stream_share < 1):
            picks, taken = current.look(
                part[at:], values[at:], most=max(chunk, current.until_shrink) - len(pending)
            )
            at += taken
            pending += picks
            if pending and (len(pending) >= chunk or not current.wanted_from_stream):
                current.learn(pending, [truth[p.snippet.snippet_id] for p in pending])
                picked, pending = picked + pending, []
    if pending:
        current.learn(pending, [truth[p.snippet.snippet_id] for p in pending])
    rest = current.rest()
    return current, picked + pending + rest


def world(seed, n=3000):
    """A stream with 5% passes and a student that ranks well but whose scores are far too low."""
    draw = np.random.default_rng(seed)
    latent = draw.normal(size=n)
    labels = (latent + draw.normal(scale=0.3, size=n) > 1.7).astype(int)
    return 1 / (1 + np.exp(-(latent - 6))), labels


@pytest.mark.parametrize("strategy", ["trm", "uncertainty", "random", "margin-quantile"])
@pytest.mark.parametrize("shrink", ["bound", "halving"])
def test_gives_exactly_the_labels_asked_for(strategy, shrink):
    scores, labels = world(0)
    _, picked = drive(scores, labels, plan(strategy, shrink=shrink))
    assert len(picked) == len({p.snippet.snippet_id for p in picked}) == 60


@pytest.mark.parametrize("shrink", ["bound", "halving"])
def test_trm_balances_classes_where_a_cut_at_half_finds_none_special(shrink):
    scores, labels = world(1)
    truth = dict(zip((s.snippet_id for s in snippets(len(labels))), labels, strict=True))

    def share(how):
        _, picked = drive(scores, labels, how, wanted=100)
        return np.mean([truth[p.snippet.snippet_id] for p in picked])

    base = labels.mean()
    assert share(plan("random")) < 2 * base
    assert share(plan("trm", shrink=shrink)) > 4 * base


@given(st.integers(0, 50), st.sampled_from([1, 7, 64, 1000]))
@settings(max_examples=20, deadline=None)
def test_how_the_stream_is_cut_into_blocks_changes_nothing(seed, block):
    scores, labels = world(seed, 800)
    how = plan("trm", shrink="bound")
    _, one = drive(scores, labels, how, block=block)
    _, other = drive(scores, labels, how, block=800)
    assert [p.snippet for p in one] == [p.snippet for p in other]


BENDS = {
    "to the ninth": lambda s: s**9,
    "logit": lambda s: np.log(s / (1 - s)),
    "steps of rank": lambda s: np.argsort(np.argsort(s)) / len(s),
    "pushed to 1": lambda s: s ** (1 / 9),
}
"""Monotone changes of a score: what a focal loss, a temperature or a re-weighting does to a student."""


@pytest.mark.parametrize("bend", BENDS.values(), ids=BENDS)
@pytest.mark.parametrize(
    "how", [("trm", "halving"), ("trm", "bound"), ("margin-quantile", "bound"), ("random", "bound")]
)
def test_a_monotone_change_of_the_scores_changes_no_pick(how, bend):
    """With few labels, between which many snippets lie, and a window so small that the interval runs dry in some rounds."""
    plan_of = plan(how[0], shrink=how[1])
    reasons = set()
    for seed in range(40):
        scores, labels = world(seed, 150)
        bent = bend(scores)
        assert (np.argsort(bent) == np.argsort(scores)).all()  # still all apart
        _, picked = drive(scores, labels, plan_of, wanted=40, uniform=8, chunk=8)
        _, other = drive(bent, labels, plan_of, wanted=40, uniform=8, chunk=8)
        assert [(p.snippet, p.reason) for p in picked] == [(p.snippet, p.reason) for p in other]
        reasons |= {p.reason for p in picked}
    if how[0] == "trm":
        assert reasons == {"uniform", "interval", "nearest"}


def test_the_first_labels_are_uniform_and_say_so():
    scores, labels = world(2)
    _, picked = drive(scores, labels, plan("trm", shrink="bound"), uniform=25)
    assert [p.reason for p in picked[:25]] == ["uniform"] * 25
    assert [p.snippet for p in picked[:25]] == snippets(25)  # whatever their score
    assert all(p.interval == EVERYTHING for p in picked if p.reason == "uniform")


def test_pitfall_1_warns_when_the_interval_stays_wide(caplog):
    scores, labels = world(3)
    with caplog.at_level(logging.WARNING):
        drive(scores, labels, plan("trm", shrink="bound", scale=1.0), wanted=20)
    assert "still holds" in caplog.text
    assert "--selection.bound-scale" in caplog.text


def test_pitfall_5_a_dry_interval_widens_and_says_so(caplog):
    scores, labels = world(4, 300)
    with caplog.at_level(logging.INFO, logger="gnomon"):
        current, picked = drive(scores, labels, plan("trm", shrink="bound"), wanted=200)
    assert len(picked) == 200
    assert current.wanted == 0
    assert "widened to the nearest ranks" in caplog.text


def test_a_stream_shorter_than_the_round_is_taken_whole():
    scores, labels = world(5, 40)
    _, picked = drive(scores, labels, plan("trm", shrink="halving"), wanted=60)
    assert len(picked) == 40


def test_pitfall_3_only_labels_of_this_round_move_the_interval():
    scores, labels = world(6)
    current, _ = drive(scores, labels, plan("trm", shrink="bound"))
    fresh = Round(2, current.plan, 60, 10, Reservoir(10), 0.05)
    assert fresh.interval == EVERYTHING
    fresh.learn([], [])
    assert fresh.interval == EVERYTHING


def test_verdicts_that_could_not_be_had_move_nothing():
    reservoir = Reservoir(100)
    scores = np.linspace(0, 1, 20)
    reservoir.add(scores)
    current = Round(1, plan("trm", shrink="halving"), 20, 0, reservoir, 0.5)
    picks, _ = current.look(snippets(20), scores, most=10)
    current.learn(picks, [None] * 10)
    assert current.interval == EVERYTHING


def test_misspelt_names():
    with pytest.raises(BadConfig, match=r'no strategy "tmr". Did you mean "trm"'):
        plan("tmr")
    with pytest.raises(BadConfig, match=r'no shrink rule "half"'):
        plan("trm", shrink="half")


class TestDesign:
    def test_chances_by_hand(self):
        design = Design()
        design.passed(EVERYTHING, 10)
        design.passed((0.5, 0.9), 30)
        design.idle = 60
        # 10 of 100 passed while everything was labelled, 40 of 100 while 0.5..0.9 was
        assert design.chances([0.1, 0.7]).tolist() == pytest.approx([0.1, 0.4])
        design.bands.append((0.6, 0.8))
        assert design.chances([0.1, 0.55, 0.7]).tolist() == pytest.approx([0.1, 0.4, 1.0])

    def test_weights_sum_to_the_effective_number(self):
        design = Design([(EVERYTHING, 10), ((0.5, 1.0), 10)])
        weights = design.weights([0.2, 0.7, 0.8])  # raw 2, 1, 1: 16 / 6
        assert weights.sum() == pytest.approx(16 / 6)
        assert (weights / weights[1]).tolist() == pytest.approx([2, 1, 1])

    def test_survives_json(self):
        design = Design([(EVERYTHING, 10), ((0.5, 0.9), 3)], [(0.1, 0.2)], 4)
        assert Design.from_plain(design.to_plain()) == design

    @pytest.mark.parametrize("strategy", ["trm", "uncertainty", "margin-quantile"])
    @pytest.mark.parametrize("shrink", ["bound", "halving"])
    def test_pitfall_2_weights_undo_the_choice(self, strategy, shrink):
        """Passes of the whole stream, estimated from 60 labels of each of 150 rounds."""
        plain, weighted, true = [], [], []
        for seed in range(150):
            scores, labels = world(seed, 600)
            current, picked = drive(scores, labels, plan(strategy, shrink=shrink))
            truth = dict(zip((s.snippet_id for s in snippets(600)), labels, strict=True))
            mine = np.array([truth[p.snippet.snippet_id] for p in picked])
            raw = 1 / current.design.chances([p.score for p in picked])
            # Horvitz and Thompson: sums of inverse chances estimate totals of what the round has read
            weighted.append((mine * raw).sum() / current.design.n_read)
            plain.append(mine.mean())
            true.append(labels.mean())
        error = np.std(weighted) / np.sqrt(len(weighted))
        assert abs(np.mean(weighted) - np.mean(true)) < 4 * error + 0.01
        assert np.mean(plain) > np.mean(true) + 0.02
