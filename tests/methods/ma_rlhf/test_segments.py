"""Rules that cut answers: values worked by hand, properties of every rule, batches equal to single rows."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.ma_rlhf import Answer, Macro, cut, segment
from gnomon.methods.ma_rlhf.actions.segments import ids_of
from gnomon.methods.ma_rlhf.actions.texts import chunk_starts, code_starts


def answer(text, logprobs=(), ref=()):
    pieces = text.split("|")
    return Answer(len(pieces), pieces, logprobs, ref, Rng(0), "7")


@pytest.mark.parametrize(
    ("n", "starts"), [(1, [0, 1, 2, 3, 4, 5, 6]), (3, [0, 3, 6]), (7, [0]), (9, [0]), (None, [0])]
)
def test_fixed_cuts_every_n_tokens_and_the_rest_is_the_last(n, starts):
    assert cut(Answer(7), Macro(n=n)).starts == starts


def test_no_segment_is_empty_where_the_length_is_a_multiple_of_n():
    """The released code adds an empty macro action there."""
    ids = segment(torch.ones(1, 10, dtype=torch.bool), Macro(n=5))
    assert ids.tolist() == [[0] * 5 + [1] * 5]


def test_the_last_token_alone():
    assert cut(Answer(7), Macro(n=3, isolate_last=True)).starts == [0, 3, 6]
    assert cut(Answer(8), Macro(n=3, isolate_last=True)).starts == [0, 3, 6, 7]
    assert cut(Answer(5), Macro(n=None, reward="mean")).starts == [0, 4]
    with pytest.raises(BadConfig, match=r"macro\.isolate_last"):
        Macro(reward="mean", isolate_last=False)


def test_perplexity_in_both_readings():
    nll = [1.0, 2.0, 1.5, 1.6, 0.2, 3.0]
    row = Answer(6, ref_logprobs=[-v for v in nll])
    assert cut(row, Macro(rule="perplexity")).starts == [0, 1, 3, 5]
    # Running: 2.0 > 1.0 starts [2.0]; 1.5 and 1.6 are below 2.0 and below their mean 1.75; 0.2 below; 3.0 above.
    assert cut(row, Macro(rule="perplexity", ppl_mode="running")).starts == [0, 1, 5]


def test_surprise_cuts_before_tokens_the_policy_had_not_expected():
    row = Answer(5, logprobs=[math.log(p) for p in (0.1, 0.6, 0.49, 0.5001, 0.2)])
    assert cut(row, Macro(rule="surprise", p_min=0.5)).starts == [0, 2, 4]


def test_rules_that_need_probabilities_say_so():
    with pytest.raises(BadConfig, match=r"needs the log-probability of each token; answer 7"):
        cut(answer("a|b"), Macro(rule="perplexity"))
    with pytest.raises(BadConfig, match="needs to know the answers"):
        segment(torch.ones(1, 3, dtype=torch.bool), Macro(rule="chunks"))


def test_randomized_takes_each_length_as_often_and_leaves_one_rest():
    macro = Macro(rule="randomized", lengths=(2, 3), repeats=2)
    starts = cut(Answer(40), macro).starts
    sizes = [b - a for a, b in zip(starts, [*starts[1:], 40], strict=True)]
    assert sorted(sizes[:4]) == [2, 2, 3, 3] and sizes[4:] == [30]
    assert len({tuple(cut(Answer(40, rng=Rng(i)), macro).starts) for i in range(20)}) > 1
    assert cut(Answer(40), macro).starts == starts


def test_chunks_end_at_punctuation_and_begin_at_function_words():
    pieces = [
        "She",
        " saw",
        " a",
        " red",
        " bird",
        " in",
        " the",
        " tree",
        ",",
        " and",
        " it",
        " sang",
        ".",
        "\n",
        "Then",
    ]
    parts = [0, 2, 5, 9, 14]
    assert chunk_starts(pieces) == parts
    assert chunk_starts([" ", "..."]) == []


def test_code_follows_the_syntax_tree():
    pieces = ["x", " =", " 1", "\n", "y", " =", " f", "(", "x", ",", " 2", ")", "\n"]
    starts = code_starts(pieces, cutoff=4)
    assert starts[0] == 0 and 4 in starts  # statements
    assert 6 in starts  # the call, of more than four tokens, is taken out of its statement
    assert 8 not in starts and 10 not in starts  # single tokens join what stands before them
    assert code_starts(["    return", " x", " +", " 1", "\n"], 2)  # an indented part of a program
    assert code_starts(["def", " ("], 3) == []


def test_code_counts_characters_and_not_bytes():
    pieces = ["s", " =", " 'äöü€'", "\n", "t", " =", " 2"]
    assert 4 in code_starts(pieces, 3)


def test_what_cannot_be_cut_falls_back_to_fixed_and_is_counted():
    cuts = cut(answer("def| (| oh| no| x| y"), Macro(rule="code", n=2))
    assert cuts.fell_back and cuts.starts == [0, 2, 4]


def test_a_function_of_ones_own_gets_tokens_offsets_and_text():
    seen = {}

    def by_sentence(tokens, offsets, text):
        seen.update(tokens=tokens, offsets=offsets, text=text)
        return [0, 2, 4]

    cuts = cut(answer("One|.| Two|."), Macro(rule=by_sentence))
    assert cuts.starts == [0, 2]
    assert seen == {
        "tokens": ["One", ".", " Two", "."],
        "offsets": [(0, 3), (3, 4), (4, 8), (8, 9)],
        "text": "One. Two.",
    }


def test_it_may_give_a_reward_for_each_segment():
    cuts = cut(answer("a|b|c"), Macro(rule=lambda *_: ([2], [1.0, -1.0])))
    assert (cuts.starts, cuts.rewards) == ([0, 2], [1.0, -1.0])
    isolated = cut(answer("a|b|c"), Macro(rule=lambda *_: ([1], [1.0, 5.0]), isolate_last=True))
    assert (isolated.starts, isolated.rewards) == ([0, 1, 2], [1.0, 0.0, 5.0])


@pytest.mark.parametrize("bounds", [[2, 1], [5], [1, 1], [-1], [1.5], ([1], [1.0]), ([1], [1.0, math.nan])])
def test_boundaries_that_do_not_fit_name_the_answer(bounds):
    with pytest.raises(BadInput, match="answer 7"):
        cut(answer("a|b|c"), Macro(rule=lambda *_: bounds))


def test_a_rule_from_a_file(tmp_path):
    (tmp_path / "mine.py").write_text(
        "def f(tokens, offsets, text):\n    return [i for i, t in enumerate(tokens) if t == 'x']\n"
    )
    assert cut(answer("a|x|b|x"), Macro(rule=f"rule:{tmp_path}/mine.py:f")).starts == [0, 1, 3]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 0),
        ("sigma", "nearest"),
        ("rule", "fxied"),
        ("lam", 1.5),
        ("p_min", 0),
        ("lengths", ()),
        ("ratio", "both"),
        ("cutoff", 1),
    ],
)
def test_settings_out_of_range_name_the_field(field, value):
    with pytest.raises(BadConfig, match=rf"macro\.{field}"):
        Macro(**{field: value})


RULES = st.sampled_from(["fixed", "randomized", "perplexity", "surprise", "chunks", "code"])


@given(
    st.lists(st.sampled_from(["the", " cat", ".", "\n", " x=1", "(", " of"]), min_size=1, max_size=24),
    RULES,
    st.booleans(),
    st.integers(0, 9),
)
def test_every_rule_covers_every_token_once(pieces, rule, isolates, seed):
    values = [-float(v) for v in Rng(seed).numpy().exponential(size=len(pieces))]
    row = Answer(len(pieces), pieces, values, values, Rng(seed))
    starts = cut(row, Macro(rule=rule, n=3, isolate_last=isolates)).starts
    assert starts[0] == 0 and starts == sorted(set(starts)) and starts[-1] < len(pieces)
    assert not isolates or starts[-1] == len(pieces) - 1


@given(st.lists(st.integers(0, 9), min_size=1, max_size=4), st.integers(1, 6), st.booleans(), st.booleans())
def test_a_batch_is_cut_as_its_rows_are_under_any_padding(lengths, n, isolates, left):
    macro = Macro(n=n, isolate_last=isolates)
    width, start = 12, 2
    mask = torch.zeros(len(lengths), width, dtype=torch.bool)
    for i, length in enumerate(lengths):
        at = width - length if left else start
        mask[i, at : at + length] = True
    ids = segment(mask, macro, start=start)
    by_rows = ids_of(
        [cut(Answer(length), macro).starts for length in lengths], mask & (torch.arange(width) >= start)
    )
    assert torch.equal(ids, by_rows)
    for i in range(len(lengths)):
        assert torch.equal(ids[i : i + 1], segment(mask[i : i + 1], macro, start=start))
