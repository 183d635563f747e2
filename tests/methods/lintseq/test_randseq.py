from collections import Counter

import pytest

from gnomon.core.rng import Rng
from gnomon.methods.lintseq import Rejected, randseq, render_target, resolve


def test_every_line_is_inserted_once_and_the_program_comes_back():
    code = "\n".join(f"x = {n}" for n in range(30))
    for number in range(20):
        path = randseq(code + " \n", Rng(number))
        assert sorted(line for lines in path.line_sets for line in lines) == list(range(30))
        assert resolve(render_target(path.diffs), strict=True).code == code
        assert path.lint_clean == [] and path.n_lint_calls == 0


def test_chunks_are_uniform_and_never_take_everything_but_the_last_line():
    counts = Counter(len(randseq("a\nb\nc\nd\ne", Rng(number)).line_sets[-1]) for number in range(4000))
    assert set(counts) == {1, 2, 3, 4}
    assert all(abs(count / 4000 - 0.25) < 0.03 for count in counts.values())
    for number in range(50):
        assert len(randseq("a\nb\nc", Rng(number)).line_sets[0]) == 1


def test_two_lines_always_leave_one_by_one():
    assert {len(randseq("a\nb", Rng(number)).line_sets) for number in range(20)} == {2}
    assert randseq("a", Rng(0)).line_sets == [[0]]


def test_the_empty_program_is_rejected():
    with pytest.raises(Rejected, match="empty"):
        randseq("\n", Rng(0))
