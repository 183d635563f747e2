import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.core.plain import to_plain as plain
from gnomon.core.report.tables import cells, columns_of, numeric_columns
from gnomon.core.report.values import decimals_for, human
from gnomon.errors import BadInput

DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (88900, "88,900"),
        (-3, f"{MINUS}3"),
        (0.5, "0.500"),
        (0.12345, "0.123"),
        (12.345, "12.3"),
        (1234.5, "1,234"),
        (2.0, "2"),
        (3e-9, f"3e{MINUS}09"),
        (math.inf, "inf"),
        (math.nan, DASH),
        (None, DASH),
        (True, "yes"),
        ("100%", "100%"),
        (np.float32(0.25), "0.250"),
        (np.int64(7), "7"),
    ],
)
def test_human(value, text):
    assert human(value) == text


def test_a_column_has_one_precision_and_its_best_value_is_marked():
    rows = [
        {"arm": "a", "p": 0.1284, "n": 3},
        {"arm": "b", "p": (0.09, 0.07, 0.11), "n": 3},
        {"arm": "c", "n": None},
    ]
    table = cells(rows, columns_of(rows), {"p": "max"})
    assert [row[1].text for row in table] == ["0.128", "0.090", DASH]
    assert [row[1].best for row in table] == [True, False, False]
    assert table[1][1].note == f"0.070 {DASH} 0.110"
    assert numeric_columns(table) == [False, True, True]


def test_equal_winners_are_both_best_and_a_lone_row_is_not():
    table = cells([{"x": 1.0}, {"x": 1.0}, {"x": 2.0}], ["x"], {"x": "min"})
    assert [row[0].best for row in table] == [True, True, False]
    assert not cells([{"x": 1.0}], ["x"], {"x": "min"})[0][0].best


def test_best_must_name_a_column_and_a_way():
    with pytest.raises(BadInput, match=r'best names column "pas@1"\. Did you mean "pass@1"'):
        cells([{"pass@1": 1}], ["pass@1"], {"pas@1": "max"})
    with pytest.raises(BadInput, match='must be "max" or "min"; got "most"'):
        cells([{"x": 1}], ["x"], {"x": "most"})


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
    max_leaves=10,
)


@given(json_like)
def test_plain_values_always_make_valid_json(value):
    assert plain(json.loads(json.dumps(plain(value), allow_nan=False))) == plain(value)


def test_plain_knows_arrays_scalars_and_strangers():
    assert plain({"a": np.float64("nan"), 1: (np.int8(3), {2})}) == {"a": None, "1": [3, [2]]}
    assert plain(object).startswith("<class")


@given(st.lists(st.floats(-1e9, 1e9), min_size=1))
def test_any_numbers_can_be_printed(values):
    decimals = decimals_for(values)
    assert all(human(value, decimals) for value in values)
