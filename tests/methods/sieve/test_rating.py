import csv
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from gnomon.core.rng import Rng
from gnomon.errors import BadInput
from gnomon.methods.sieve import Snippet
from gnomon.methods.sieve.judging import KEY, SHEET, export_disagreements, read_ratings, wilson
from gnomon.methods.sieve.judging.filters import Filter

CATS = Filter("cats", "texts about cats", "a cat matters", "no cat")
N = 60
SNIPPETS = [Snippet(f"d{n}:0-9", f"d{n}", f'text "{n}",\nsecond line', 0, 9) for n in range(N)]
JUDGE = [None if n % 10 == 9 else n % 2 for n in range(N)]
STUDENT = [n % 2 if n % 3 else 1 - n % 2 for n in range(N)]
DIFFER = [n for n in range(N) if n % 10 != 9 and n % 3 == 0]


def export(folder, **changes):
    given = {"rng": Rng(0)} | changes
    return export_disagreements(folder, SNIPPETS, JUDGE, STUDENT, CATS, **given)


def rows_of(folder):
    with (folder / SHEET).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def fill(folder, rate):
    """The sheet with `rate(key row)` in its last column."""
    key = json.loads((folder / KEY).read_text())
    rows = [row | {"human": rate(key[row["item"]])} for row in rows_of(folder)]
    with (folder / SHEET).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_the_sheet_holds_every_disagreement_and_tells_nothing(tmp_path):
    assert export(tmp_path) == len(DIFFER)
    rows, key = rows_of(tmp_path), json.loads((tmp_path / KEY).read_text())
    assert {row["text"] for row in rows} == {SNIPPETS[n].text for n in DIFFER}
    assert list(rows[0]) == ["item", "text", "filter", "human"]
    assert all(row["human"] == "" and "a cat matters" in row["filter"] for row in rows)
    assert set(key) == {row["item"] for row in rows}
    for row in rows:
        at = key[row["item"]]
        n = int(at["snippet_id"][1:].split(":")[0])
        assert (row["text"], at["judge"], at["student"]) == (SNIPPETS[n].text, JUDGE[n], STUDENT[n])


def test_the_order_is_random_and_repeats_with_the_seed(tmp_path):
    orders = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        export(tmp_path / name, rng=Rng(seed))
        orders.append([row["text"] for row in rows_of(tmp_path / name)])
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != [SNIPPETS[n].text for n in DIFFER]
    assert export(tmp_path / "few", most=5) == 5 and len(rows_of(tmp_path / "few")) == 5


def test_whom_the_raters_side_with(tmp_path):
    export(tmp_path)
    words = ("fail", "pass")
    fill(tmp_path, lambda at: words[at["student"]].upper())
    found = read_ratings(tmp_path / SHEET)
    assert (found.n, found.unrated, found.student, found.judge, found.share) == (
        len(DIFFER),
        0,
        len(DIFFER),
        0,
        1,
    )
    fill(tmp_path, lambda at: at["judge"])
    assert read_ratings(tmp_path / SHEET).judge == len(DIFFER)
    rated = [row["item"] for row in rows_of(tmp_path)][:10]
    turn = iter(range(100))
    fill(
        tmp_path, lambda at: "" if (n := next(turn)) >= 10 else words[at["student"] if n < 7 else at["judge"]]
    )
    found = read_ratings(tmp_path / SHEET, tmp_path / KEY)
    assert (found.n, found.unrated, found.student, found.judge) == (10, len(DIFFER) - 10, 7, 3)
    assert (found.low, found.high) == pytest.approx(wilson(7, 10)) and len(rated) == 10


def test_an_empty_sheet_prefers_nobody(tmp_path):
    export(tmp_path)
    found = read_ratings(tmp_path / SHEET)
    assert math.isnan(found.share) and (found.n, found.low, found.high) == (0, 0.0, 1.0)


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_wilson_s(counts):
    k, n = counts
    expected = binomtest(k, n).proportion_ci(method="wilson")
    assert wilson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-6)


def change(path, old, new):
    path.write_text(path.read_text("utf-8").replace(old, new, 1), "utf-8")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda f: fill(f, lambda at: "passable"),
            r'rating\.csv, row 2, item "item-0001": \'passable\' is no label',
        ),
        (lambda f: change(f / SHEET, "item-0002", "item-9999"), r'row 3: item "item-9999" is not in the key'),
        (lambda f: change(f / SHEET, "item-0002", "item-0001"), r'row 3: item "item-0001" is rated twice'),
        (lambda f: change(f / SHEET, "human", "people"), r'row 2: column "human" is missing'),
        (lambda f: (f / KEY).unlink(), r"rating_key\.json: the key cannot be read"),
        (lambda f: (f / KEY).write_text("[1]"), r"rating_key\.json: not the key of a rating sheet"),
        (lambda f: (f / SHEET).unlink(), r"rating\.csv does not exist"),
    ],
)
def test_sheets_that_cannot_be_read(tmp_path, spoil, message):
    export(tmp_path)
    spoil(tmp_path)
    with pytest.raises(BadInput, match=message):
        read_ratings(tmp_path / SHEET)


def test_exports_that_cannot_be(tmp_path):
    with pytest.raises(BadInput, match="agree on every snippet"):
        export_disagreements(tmp_path, SNIPPETS, JUDGE, [n or 0 for n in JUDGE], CATS, rng=Rng(0))
    with pytest.raises(BadInput, match="60 snippets, 60 labels and 1 decisions"):
        export_disagreements(tmp_path, SNIPPETS, JUDGE, [1], CATS, rng=Rng(0))
    export(tmp_path)
    with pytest.raises(BadInput, match=r"rating\.csv is there already, and may hold ratings"):
        export(tmp_path)


def test_no_text_is_run_by_a_spreadsheet(tmp_path):
    snippets = [Snippet("d:0-1", "d", '=HYPERLINK("http://x")', 0, 1)]
    export_disagreements(tmp_path, snippets, [1], [0], CATS, rng=Rng(0))
    assert rows_of(tmp_path)[0]["text"] == '\'=HYPERLINK("http://x")'
