import pytest

from gnomon.core.rng import Rng
from gnomon.errors import BadConfig
from gnomon.methods.lintseq import Program, sample_path, search_paths

CODE = "def f(a):\n    b = a\n    c = b\n    d = 1\n    if d:\n        d = 2\n    return c"


@pytest.mark.slow
def test_one_child_one_kept_one_branch_is_plain_sampling(functions):
    for number, function in enumerate(functions[::150]):
        program = Program(function.code, linter="pyflakes")
        (found,) = search_paths(program, Rng(number), children_per_round=1, top_k=1, population=1)
        plain = sample_path(program, Rng(number))
        assert found.line_sets == plain.line_sets and found.lint_clean == plain.lint_clean


def test_max_depth_is_max_edits():
    program = Program(CODE, linter="pyflakes")
    one = {"children_per_round": 1, "top_k": 1, "population": 1}
    for limit in (1, 2, 3):
        (found,) = search_paths(program, Rng(5), **one, max_depth=limit)
        assert found.line_sets == sample_path(program, Rng(5), max_edits=limit).line_sets


def test_the_first_deletion_is_the_one_with_most_errors():
    program = Program(CODE, linter="pyflakes")
    (best,) = search_paths(program, Rng(0), children_per_round=60, top_k=1, population=1)
    # Of all single draws, `b = a` pulls most with it: `c = b` is undefined, and then `return c`.
    errors = {line: program.close({line}, program.full).n_diagnostics for line in range(7)}
    assert max(errors, key=errors.__getitem__) == 1
    assert best.line_sets[-1] == sorted(program.close({1}, program.full).lines)


def test_a_wide_search_finds_many_clean_paths_within_its_population():
    program = Program(CODE, linter="pyflakes")
    paths = search_paths(program, Rng(0), population=8)
    assert len({str(path.line_sets) for path in paths}) == len(paths) > 3
    for path in paths:
        assert all(path.lint_clean)
        assert sorted(line for lines in path.line_sets for line in lines) == list(range(7))
    assert [p.line_sets for p in search_paths(program, Rng(0), population=8)] == [p.line_sets for p in paths]


@pytest.mark.parametrize("name", ["children_per_round", "top_k", "population", "max_depth"])
def test_sizes_below_one_are_refused(name):
    with pytest.raises(BadConfig, match=f"{name} must be >= 1; got 0"):
        search_paths(Program(CODE, linter="pyflakes"), Rng(0), **{name: 0})
