import pytest

from gnomon.core.rng import Rng
from gnomon.methods.lintseq import audit_path, randseq, sample_edits
from gnomon.methods.lintseq.edits import forward_diffs, summarise
from gnomon.methods.lintseq.linters import shared_linter

LINES = ["x = 1", "y = x", "z = y"]


def test_a_path_worked_by_hand():
    diffs = forward_diffs(LINES, [[0], [2], [1]])
    audit = audit_path("\n".join(LINES), diffs, shared_linter("pyflakes"))
    assert (audit.n_edits, audit.n_states, audit.n_clean, audit.is_exact) == (3, 2, 1, True)
    assert (audit.offence.edit, audit.offence.line, audit.offence.code) == (2, 2, "UndefinedName")
    assert audit.offence.state == "x = 1\nz = y"
    # Three diffs, and a newline with the 8-character token before each and for each of the two ends.
    assert audit.program_size == 17
    assert audit.target_size == 3 * (len("@@ -1,0 +2 @@\n+z = y") + 9) + 2 * 9


def test_the_errors_of_the_program_itself_do_not_count():
    lines = ["a = unknown", "b = a"]
    audit = audit_path("\n".join(lines), forward_diffs(lines, [[0], [1]]), shared_linter("pyflakes"))
    assert audit.n_clean == audit.n_states == 1 and audit.offence is None


@pytest.mark.parametrize("diffs", [["@@ -0,0 +1 @@\n+x = 2"], ["@@ -0,0 +1 @@\n-x = 1"], ["garbage"], []])
def test_diffs_that_do_not_give_the_program_back_are_not_exact(diffs):
    audit = audit_path("x = 1", diffs, shared_linter("pyflakes"))
    assert not audit.is_exact


def test_sizes_are_counted_with_the_given_tokenizer():
    audit = audit_path(
        "a b", ["@@ -0,0 +1 @@\n+a b"], shared_linter("pyflakes"), size=lambda text: len(text.split())
    )
    assert (audit.program_size, audit.target_size) == (2, 8)


def test_a_summary_weighs_states_and_sizes_not_paths():
    linter = shared_linter("pyflakes")
    code = "\n".join(LINES)
    audits = [audit_path(code, forward_diffs(LINES, sets), linter) for sets in ([[0], [2], [1]], [[0, 1, 2]])]
    total = summarise(audits)
    assert (total.n_paths, total.n_states, total.share_clean, total.share_exact) == (2, 2, 0.5, 1.0)
    assert total.edits_per_path == 2
    assert total.overhead == (audits[0].target_size + audits[1].target_size) / 34
    assert [number for number, _ in total.offences] == [0]


def test_a_summary_of_nothing_has_no_shares():
    total = summarise([])
    assert (total.n_paths, total.share_clean, total.share_exact, total.overhead) == (0, None, None, None)


@pytest.mark.slow
def test_lintseq_is_clean_and_random_deletion_is_not(functions):
    linter = shared_linter("pyflakes")
    clean, random = [], []
    short = [function for function in functions if function.code.count("\n") < 12]
    for number, function in enumerate(short[:: len(short) // 120]):
        path = sample_edits(function.code, linter="pyflakes", rng=Rng(0).child(number))
        clean.append(audit_path(path.code, path.diffs, linter))
        path = randseq(function.code, Rng(0).child(number))
        random.append(audit_path(path.code, path.diffs, linter))
    assert summarise(clean).share_clean == summarise(clean).share_exact == 1.0
    assert summarise(random).share_exact == 1.0
    assert summarise(random).share_clean < 0.3
