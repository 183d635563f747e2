import pytest

from gnomon.core.rng import Rng
from gnomon.methods.calm import validate
from gnomon.methods.calm.planted import PLANTED


@pytest.mark.slow
def test_planted_biases_are_covered_and_nothing_is_found_where_nothing_is():
    found = validate(200, 439, Rng(30))
    assert (
        found.smallest_coverage >= 0.88
    )  # of about 35 quantities, 200 audits each: 0.95 less four standard errors
    assert sum(one.coverage for one in found.covered) / len(found.covered) >= 0.93
    assert found.flagged_null <= 0.06
    assert found.any_flagged_null <= 0.08
    assert max(found.flagged_other.values()) <= 0.06
    assert all(found.flagged_own[name] > 0.9 for name, weight in PLANTED.items() if abs(weight) >= 1)
    assert all(found.flagged_own[name] > 3 * found.flagged_other[name] for name in PLANTED)
