"""Length held equal: judges that look at length alone come out at 0, and real biases beside it are found."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fixtures_calm import made_items
from gnomon.core.rng import Rng
from gnomon.methods.calm import FunctionJudge, Rewrite, analyze, audit, chosen_probes
from gnomon.methods.calm.measures import LengthModel, Pairs
from gnomon.methods.calm.planted import plant_lengths

WORDS = [
    "a",
    "to",
    "the",
    "answer",
    "because",
    "therefore",
    "of",
    "considerable",
    "is",
    "representation",
    "as",
    "number",
]


def generated_pairs(n, seed=0, spread=0.35):
    """Answers of words of unlike length, some of them twice as long as their rivals."""
    draw = Rng(seed).numpy()

    def text():
        words = draw.choice(WORDS, int(np.exp(draw.normal(4.6, spread))))
        ends = [f"{word}." if draw.random() < 0.1 else word for word in words]
        return " ".join(ends)

    return [(text(), text()) for _ in range(n)]


def real_pairs(shared_data):
    path = shared_data / "judge" / "judgebench_claude-3-haiku.jsonl"
    if not path.is_file():
        pytest.skip("no JudgeBench log beside the repository")
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    pairs = [(row["response_A"], row["response_B"]) for row in rows]
    return [pair if row["label"] == "A>B" else pair[::-1] for row, pair in zip(rows, pairs, strict=True)]


def check(rows, audits):
    """Coverage within four standard errors of 95%, over so many audits; biases found; nothing found where nothing is."""
    assert len(rows) == 23
    four = 4 * np.sqrt(0.95 * 0.05 / audits)
    for row in rows:
        if row.judge == "quality that goes with length":
            continue  # the limit that docs/design/calm.md states
        assert row.cannot == 0 and row.compared > 60, row
        assert row.coverage >= 0.95 - four, row
        assert abs(row.mean - row.truth) < 0.05, row
        if "cue" not in row.judge:
            assert row.truth == 0 and row.off_zero <= 0.05 + four, row
    by_length = [row for row in rows if "longer" in row.judge and "cue" not in row.judge]
    assert by_length and all(row.raw > 0.1 and abs(row.mean) < 0.01 for row in by_length)
    biased = [row for row in rows if "cue" in row.judge and abs(row.truth) > row.smallest]
    assert len(biased) >= 4 and all(row.off_zero >= 0.7 for row in biased)


@pytest.mark.slow
def test_planted_judges_of_length_on_generated_answers():
    check(list(plant_lengths(generated_pairs(250), 60, 150, Rng(1), ["1.0 to 1.3"])), 60)


@pytest.mark.slow
def test_planted_judges_of_length_on_real_answers(shared_data):
    check(list(plant_lengths(real_pairs(shared_data), 30, 150, Rng(2), ["1.0 to 1.3"])), 30)


@pytest.mark.slow
def test_rewrites_longer_than_any_plain_pair_cannot_be_held_equal():
    for row in plant_lengths(generated_pairs(120, spread=0.15), 20, 100, Rng(3), ["about 2.1"]):
        assert row.cannot >= 0.9, row


# Through an audit, as a user meets it


def padded_items(n, ratio, seed=0):
    """Items whose worse answer has a sad version, longer by `ratio`."""
    items = []
    for item, (better, worse) in zip(made_items(n, sets=("fact",)), generated_pairs(n, seed), strict=True):
        draw = Rng(seed).child(item.id).numpy()
        more = " ".join(draw.choice(WORDS, round((ratio - 1) * len(worse.split()))))
        sad = Rewrite("sentiment", "sad, worse", 1, f"{worse} {more}")
        items.append(replace(item, answers=(better, worse), rewrites=(sad,)))
    return items


def profile_of(judge, items):
    (profile,) = analyze(audit(FunctionJudge(judge), items, chosen_probes(["sentiment"])))
    return profile


def cell_of(judge, items):
    return next(cell for cell in profile_of(judge, items).cells if cell.probe == "sentiment")


def longest(measure):
    return lambda trial: max(range(2), key=lambda slot: measure(trial.answers[slot]))


@pytest.mark.parametrize("measure", [len, lambda text: len(text.split())], ids=["characters", "words"])
def test_the_audit_of_a_judge_that_takes_the_longer_answer(measure):
    profile = profile_of(longest(measure), padded_items(150, 1.25))
    assert any("at equal length nothing is left" in note for note in profile.notes)
    (cell,) = profile.cells
    drift = cell.more["length"]
    assert cell.word == "biased" and cell.shift[1] > 0.1  # its verdicts do move
    assert drift["median"] == pytest.approx(1.25, abs=0.02) and drift["items"] > 80
    value, low, high = drift["at_equal_length"]
    assert low <= 0 <= high and abs(value) < 0.03
    assert drift["by_length"] == pytest.approx(drift["shift"], abs=0.03)


def test_a_tone_beside_length_is_still_found():
    def judge(trial):
        sad = trial.probe == "sentiment" and int(trial.item.rpartition("-")[2]) % 4 == 0
        return trial.slots.index(1) if sad else longest(len)(trial)

    profile = profile_of(judge, padded_items(200, 1.25))
    value, low, _ = profile.cells[0].more["length"]["at_equal_length"]
    assert low > 0 and value < 0.25 and profile.notes == []


def test_what_cannot_be_held_equal_is_said():
    drift = cell_of(longest(len), padded_items(100, 6.0)).more["length"]
    assert drift["at_equal_length"] is None and drift["beyond"] > 80
    assert "differ more in length than plain pairs do" in drift["reason"]
    few = cell_of(longest(len), padded_items(12, 1.2)).more["length"]
    assert few["at_equal_length"] is None and few["reason"] == "fewer than 20 plain pairs"


def test_a_log_without_lengths_says_so():
    items = padded_items(30, 1.2)
    rows = audit(FunctionJudge(longest(len)), items, chosen_probes(["sentiment"]))
    (profile,) = analyze([replace(row, words=[], characters=[]) for row in rows])
    drift = profile.cells[0].more["length"]
    assert drift["at_equal_length"] is None and "does not say how long" in drift["reason"]


# By hand


def pairs_of(rng, n=400, extra=0.0):
    lengths = np.stack([rng.normal(200, 40, (n, 2)), np.zeros((n, 2))], 2)
    lengths[..., 1] = 6 * lengths[..., 0]
    lengths[:, 0] += extra
    return lengths


def test_the_logistic_fit_is_that_of_statsmodels():
    sm = pytest.importorskip("statsmodels.api")
    from gnomon.methods.calm.measures.lengths import _logistic

    draw = Rng(4).numpy()
    x = np.concatenate([np.ones((300, 1)), draw.normal(size=(300, 2))], 1)
    y = (draw.random(300) < 1 / (1 + np.exp(-x @ [0.3, 1.0, -0.5]))).astype(float)
    counts = np.ones((2, 300))
    counts[1, :150] = 0
    weights = _logistic(x, y, np.ones(300), counts)
    assert weights[0] == pytest.approx(sm.Logit(y, x).fit(disp=0).params, abs=2e-3)
    assert weights[1] == pytest.approx(sm.Logit(y[150:], x[150:]).fit(disp=0).params, abs=4e-3)


def test_a_change_of_lengths_alone_is_predicted_and_nothing_is_left():
    draw = Rng(5).numpy()
    before = pairs_of(draw)
    after = before.copy()
    after[:, 0] *= 1.1
    ones, ratios = np.ones(len(before)), np.full(len(before), 1.1)
    longer = (before[:, 0, 0] > before[:, 1, 0]).astype(float)
    model = LengthModel(Pairs(2 * longer, 2 * ones, before), Rng(0))
    moved = (after[:, 0, 0] > after[:, 1, 0]).astype(float)
    drift = model.hold_equal(Pairs(moved, ones, after), ratios)
    assert drift.shift > 0.1 and drift.by_length == pytest.approx(drift.shift, abs=0.01)
    # No narrower than one verdict of the compared items, either way.
    value, low, high = drift.at_equal_length
    assert low <= value - 1 / drift.items and high >= value + 1 / drift.items
    assert low < 0 < high
    # Every compared verdict for the rewrite: what length does not explain is left.
    all_for = model.hold_equal(Pairs(ones, ones, after), ratios)
    inside = model.covers(after)
    assert all_for.at_equal_length[0] == pytest.approx(1 - moved[inside].mean(), abs=0.01)


def test_verdicts_that_could_not_be_read_are_no_items():
    draw = Rng(6).numpy()
    before = pairs_of(draw)
    ones, ratios = np.ones(len(before)), np.full(len(before), 1.0)
    liked = (draw.random(len(before)) < 0.5).astype(float)
    model = LengthModel(Pairs(liked, ones, before), Rng(0))
    unread = ones.copy()
    unread[:100] = 0
    drift = model.hold_equal(Pairs(liked * unread, unread, before), ratios)
    assert drift.items + drift.beyond == 300
    assert model.hold_equal(Pairs(liked, ones, before), np.full(len(before), np.nan)) is None
