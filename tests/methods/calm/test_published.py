"""The paper's table through the report's code: its BIS averages follow from its RR and CR columns."""

import pytest

from fixtures_calm import log_of_rates
from gnomon.core.report import Page
from gnomon.methods.calm import analyze, bis_averages
from gnomon.methods.calm.report import headline_row, profiles

FACT = ("verbosity", "fallacy-oversight", "sentiment")
ALIGNMENT = ("position", "compassion-fade", "bandwagon", "authority", "distraction", "diversity")
# RR of the three fact probes, CR of the set, RR of the six alignment probes, CR of the set.
TABLE = {
    "ChatGPT": ((0.900, 0.917, 0.804), 0.998, (0.566, 0.862, 0.688, 0.662, 0.713, 0.679), 0.906),
    "GPT-4-Turbo": ((0.915, 0.969, 0.653), 0.990, (0.818, 0.858, 0.638, 0.846, 0.729, 0.855), 0.856),
    "GPT-4o": ((0.977, 0.984, 0.699), 0.998, (0.776, 0.868, 0.791, 0.787, 0.790, 0.814), 0.925),
    "GLM-4": ((0.887, 0.979, 0.679), 0.970, (0.781, 0.835, 0.690, 0.796, 0.814, 0.788), 0.884),
    "Claude-3.5": ((0.952, 0.985, 0.660), 0.999, (0.832, 0.875, 0.610, 0.865, 0.878, 0.914), 0.915),
    "Qwen2": ((0.884, 0.935, 0.651), 0.994, (0.760, 0.877, 0.710, 0.779, 0.785, 0.826), 0.904),
}
ALIGNMENT_BIS = {
    "ChatGPT": 0.211,
    "GPT-4o": 0.121,
    "Qwen2": 0.115,
    "GLM-4": 0.100,
    "Claude-3.5": 0.086,
    "GPT-4-Turbo": 0.065,
}
FACT_BIS = {"GPT-4o": 0.111, "Qwen2": 0.171}


def rates(judge):
    fact, cr_fact, alignment, cr_alignment = TABLE[judge]
    rr = dict(zip(FACT, fact, strict=True)) | dict(zip(ALIGNMENT, alignment, strict=True))
    return rr, {"fact": cr_fact, "alignment": cr_alignment}


@pytest.mark.parametrize("judge", TABLE)
def test_bis_averages_follow_from_the_table(judge):
    found = bis_averages(*rates(judge))
    assert found["alignment"] == pytest.approx(ALIGNMENT_BIS[judge], abs=0.0006)
    if judge in FACT_BIS:
        assert found["fact"] == pytest.approx(FACT_BIS[judge], abs=0.0006)


def test_the_best_and_worst_of_the_table():
    found = {judge: bis_averages(*rates(judge)) for judge in TABLE}
    assert min(found, key=lambda judge: found[judge]["alignment"]) == "GPT-4-Turbo"
    assert min(found, key=lambda judge: found[judge]["fact"]) == "GPT-4o"
    assert max(found, key=lambda judge: found[judge]["fact"]) == "Qwen2"


@pytest.fixture(scope="module")
def analyzed():
    """Logs of 1,000 items that have exactly the rates of two judges of the table."""
    rows = [row for judge in ("ChatGPT", "Qwen2") for row in log_of_rates(1000, *rates(judge), judge=judge)]
    return {profile.judge: profile for profile in analyze(rows)}


@pytest.mark.parametrize("judge", ["ChatGPT", "Qwen2"])
def test_logs_with_these_rates_give_the_table_back(analyzed, judge):
    row = headline_row(analyzed[judge])
    rr, cr = rates(judge)
    for name, value in rr.items():
        assert row[name][0] == pytest.approx(value), name
    for name, value in cr.items():
        assert row[f"CR, {name}"][0] == pytest.approx(value)
    assert row["BIS, alignment"] == pytest.approx(ALIGNMENT_BIS[judge], abs=0.0006)


def test_the_page_shows_them(analyzed):
    page = Page("t", method="calm", verb="analyze")
    profiles(page, list(analyzed.values()))
    (table,) = [t for t in page._tables if t["caption"].startswith("RR by bias")]
    assert [row["judge"] for row in table["rows"]] == ["ChatGPT", "Qwen2"]
    assert page._figures["ChatGPT: BIS, alignment"] == pytest.approx(0.211, abs=0.0006)
    assert not page.simulated and "SIMULATED" not in page.title


def test_scores_of_self_enhancement_are_ratios_of_means():
    """The table's own and others' scores; the preprint's form hides the direction."""
    import numpy as np

    from gnomon.methods.calm.measures import error_rate

    published = {
        (5.21, 6.25): -16.6,
        (6.98, 6.38): 9.4,
        (7.01, 6.48): 8.2,
        (6.55, 6.32): 3.6,
        (7.04, 6.68): 5.4,
        (7.64, 7.01): 9.0,
    }
    for (own, other), percent in published.items():
        left, right = np.array([own - 1, own + 1]), np.array([other + 0.5, other - 0.5])
        assert 100 * error_rate(left, right).rate.value == pytest.approx(percent, abs=0.06)
        assert 100 * error_rate(left, right, version="preprint").rate.value == pytest.approx(
            abs(percent), abs=0.06
        )
    refined = {(5.23, 4.94), (8.31, 8.45), (7.44, 7.20), (7.64, 7.73), (7.51, 7.68), (7.29, 7.39)}
    ratios = [100 * (after / before - 1) for before, after in refined]
    assert min(ratios) == pytest.approx(-5.5, abs=0.06) and max(ratios) == pytest.approx(2.2, abs=0.1)
