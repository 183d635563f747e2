"""Kinds of errors and answer choice, worked by hand; transfer between tasks whose direction is known."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures_truth_probes import made, spanned, store_of
from gnomon.errors import BadConfig, BadInput, ModelMismatch
from gnomon.methods.truth_probes import (
    ErrorTypeProbe,
    TaskStates,
    choose,
    generalise,
    merge,
    taxonomy,
    type_scores,
)
from gnomon.methods.truth_probes.answers import NO_ANSWER
from gnomon.methods.truth_probes.errors import Counts, Equality, by_type, classify, coverage, read_aliases


@pytest.mark.parametrize(
    ("counts", "code", "paper"),
    [
        # K, c, m, u, refusals
        ((30, 30, 0, 0, 0), ("B1",), ("B1",)),
        ((30, 15, 15, 1, 0), ("B2", "C2", "D"), ("B2", "C2", "D")),
        ((30, 20, 6, 4, 0), ("B2",), ("B2",)),
        ((30, 0, 30, 1, 0), ("C1",), ("C1",)),
        ((30, 3, 20, 5, 0), ("C2",), ("C2",)),
        ((30, 10, 12, 5, 0), ("D",), ("D",)),
        ((30, 5, 5, 12, 0), ("E2",), ("D", "E2")),  # "about 5 each" is more than 5 in the code
        ((30, 6, 12, 6, 0), (), ()),  # 6 apart
        (
            (30, 0, 8, 10, 0),
            ("E1",),
            (),
        ),  # ten different answers are "over ten" in the paper's words only from 11 on
        ((30, 0, 8, 11, 0), ("E1",), ("E1",)),
        ((30, 2, 8, 9, 0), ("E2",), ()),
        ((30, 5, 12, 3, 12), ("A",), ()),
        ((30, 0, 16, 3, 16), ("A",), ("A",)),
        ((30, 14, 16, 1, 16), ("A", "D"), ("A", "D")),
        ((10, 4, 5, 2, 0), ("C2", "D", "E2"), ("C2", "D")),
        ((6, 0, 6, 1, 0), ("C1",), ("C1",)),
    ],
)
def test_types_by_hand(counts, code, paper):
    assert classify(Counts(*counts)) == code
    assert classify(Counts(*counts), "paper") == paper


@given(st.integers(2, 40), st.data())
def test_types_that_exclude_each_other(K, data):
    c = data.draw(st.integers(0, K))
    u = data.draw(st.integers(min(1, K - c), K - c))
    m = data.draw(st.integers(-(-(K - c) // u), K - c - u + 1)) if u else 0
    refusals = data.draw(st.sampled_from([0, m]))
    for rule in ("code", "paper"):
        found = classify(Counts(K, c, m, u, refusals), rule)
        for pair in ({"B1", "B2"}, {"C1", "C2"}, {"E1", "E2"}, {"A", "C1"}, {"A", "C2"}):
            assert not pair <= set(found)
        if c == 0:
            assert not {"B1", "B2", "C2", "D", "E2"} & set(found)
        if c == K:
            assert found == ("B1",)


def samples(name, right, wrongs, seed=0, task="open"):
    """Samples of one question: so many right ones, and wrong ones by text."""
    texts = [("Paris", 1)] * right + [(text, 0) for text in wrongs]
    return [
        spanned(text, text, name=name, draw=k, seed=seed, correct=z, task=task)
        if text
        else made("", name=name, draw=k, seed=seed, correct=z, exact_answer=NO_ANSWER, valid=1)
        for k, (text, z) in enumerate(texts, 1)
    ]


def test_groups_of_wrong_answers_are_equal_answers_and_not_parts_of_each_other():
    (one,) = taxonomy(samples("a", 1, ["1", "15", "1.0", "", "the Rome", "rome."], task="number"))
    assert one.wrong == {"1": 2, "15": 1, NO_ANSWER: 1, "rome": 2} or dict(one.wrong) == {
        "1": 2, "rome": 2, "15": 1, NO_ANSWER: 1,
    }  # fmt: skip
    assert (one.counts.largest, one.counts.distinct, one.counts.refusals) == (2, 4, 1)
    assert Equality().of(spanned("The Who", "The Who")) == "who"
    assert Equality().of(spanned("the", "the")) == "the"


@pytest.mark.parametrize(
    ("equality", "task", "groups"),
    [
        (Equality(), "open", {"nyc": 2, "new york": 1, "big apple": 1, "1,000": 1, "1000": 1}),
        (Equality("exact"), "open", {"NYC": 1, "nyc.": 1, "New York": 1, "The Big Apple": 1, "1,000": 1, "1000": 1}),
        (Equality("number"), "open", {"nyc": 2, "new york": 1, "big apple": 1, "1000": 2}),
        (Equality(), "number", {"nyc": 2, "new york": 1, "big apple": 1, "1000": 2}),
        (Equality(aliases={"NYC": "New York", "The Big Apple": "New York"}), "open", {"new york": 4, "1,000": 1, "1000": 1}),
        (Equality("rule:fixtures_truth_rules:initial"), "open", {"N": 3, "T": 1, "1": 2}),
        (Equality("rule:fixtures_truth_rules:initial", {"T": "N"}), "open", {"N": 4, "1": 2}),
    ],
)  # fmt: skip
def test_which_wrong_answers_are_the_same(equality, task, groups):
    drawn = samples("a", 0, ["NYC", "nyc.", "New York", "The Big Apple", "1,000", "1000"], task=task)
    (typed,) = taxonomy(drawn, equality=equality)
    assert dict(typed.wrong) == groups
    assert (typed.counts.largest, typed.counts.distinct) == (max(groups.values()), len(groups))


def test_spellings_of_one_label_are_one_answer():
    drawn = samples(
        "a", 0, ["entails", "Entailment", "entailed", "neither", "neutral", "it depends"], task="nli"
    )
    assert dict(taxonomy(drawn)[0].wrong) == {"entailment": 3, "neutral": 2, "it depends": 1}


def test_large_numbers_stay_apart():
    assert len(taxonomy(samples("a", 4, ["1234567", "1234568"], task="number"))[0].wrong) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"New York": ["NYC", "Big Apple"]}', None),
        ('["NYC"]', "must be an object"), ("{}", "must be an object"), ("New York,NYC", "cannot be read as JSON"),
        ('{"New York": "NYC"}', '"New York" needs a list'), ('{"a": ["x"], "b": ["x"]}', '"x" is a name of "a" and of "b"'),
        ('{"a": ["b"], "b": []}', '"b" is a name of "a" and of "b"'),
    ],
)  # fmt: skip
def test_files_of_aliases(tmp_path, content, message):
    path = tmp_path / "aliases.json"
    path.write_text(content)
    if message is None:
        assert read_aliases(path) == {"New York": "New York", "NYC": "New York", "Big Apple": "New York"}
    else:
        with pytest.raises(BadInput, match=message):
            read_aliases(path)


def test_forms_that_cannot_be():
    with pytest.raises(BadConfig, match=r'normalise must be.*got "txt".*"text"'):
        Equality("txt")
    with pytest.raises(BadInput, match="must give the common form of an answer as text"):
        taxonomy(samples("a", 0, ["xyz"] * 6), equality=Equality("rule:fixtures_truth_rules:is_long"))
    with pytest.raises(BadInput, match=r'"nyc\." is a name of "x" and of "y"'):
        taxonomy(samples("a", 0, ["z"] * 6), equality=Equality(aliases={"NYC": "x", "nyc.": "y"}))


def lost(answers):
    """The same samples, of which no exact answer was located."""
    return [dataclasses.replace(answer, exact_answer="", spans=[], valid=0) for answer in answers]


def test_what_was_not_located_is_wrong_but_neither_a_refusal_nor_a_group():
    refusals, failures = samples("a", 1, [""] * 5), samples("b", 1, ["x"]) + lost(samples("b", 0, ["y"] * 4))
    failures = [dataclasses.replace(answer, draw=k) for k, answer in enumerate(failures, 1)]
    silent, unread = taxonomy(refusals + failures)
    assert "A" in silent.types
    assert (silent.counts.refusals, silent.counts.failed) == (5, 0)
    counts = unread.counts
    assert (counts.correct, counts.largest, counts.distinct, counts.refusals, counts.failed) == (
        1,
        1,
        1,
        0,
        4,
    )
    assert dict(unread.wrong) == {"x": 1}
    assert not {"A", "C1", "C2"} & set(unread.types)


def test_right_answers_beside_unlocated_wrong_ones_are_mostly_right():
    drawn = samples("a", 4, []) + lost(samples("a", 0, ["x"] * 2))
    (typed,) = taxonomy([dataclasses.replace(answer, draw=k) for k, answer in enumerate(drawn, 1)])
    assert typed.types == ("B2",)


def test_shards_with_other_seeds_merge_and_the_same_ones_do_not():
    parts = [samples("a", 2, ["x"], seed) + samples("b", 0, ["x", "y", "z"], seed) for seed in (0, 1)]
    merged = merge(parts)
    assert [a.id for a in merged] == ["a"] * 6 + ["b"] * 6
    one, other = taxonomy(merged)
    assert (one.counts.correct, one.counts.samples, other.counts.correct) == (4, 6, 0)
    with pytest.raises(BadInput, match=r"the same sample \(question a, seed 0, draw 1\)"):
        merge([parts[0], parts[0]])
    with pytest.raises(BadInput, match='"b" is in one of them only'):
        merge([parts[0], samples("a", 1, [], 3)])


def test_a_question_of_which_some_samples_have_no_label_is_typed_by_the_others():
    """8 samples of each, of which one of a and three of b have no label: 7 of 7 right is always right, and a sixth of 5 is none.

    c: 4 of 8 right, one wrong answer 4 times; and one different wrong answer is 8 // 3 - 1.
    """
    typed = taxonomy(samples("a", 7, []) + samples("b", 5, []) + samples("c", 4, ["x"] * 4))
    assert [(question.id, question.types, question.counts.samples) for question in typed] == [
        ("a", ("B1",), 7),
        ("c", ("B2", "C2", "D", "E2"), 8),
    ]


def test_greedy_answers_and_too_few_samples_are_refused():
    with pytest.raises(BadInput, match="greedy answers are no samples"):
        taxonomy([made(correct=1)])
    with pytest.raises(BadInput, match="at least 6 samples of every question; got 5"):
        taxonomy(samples("a", 5, []))


def test_coverage():
    typed = taxonomy(samples("a", 6, []) + samples("b", 0, ["x"] * 6) + samples("c", 2, ["x", "x", "y", "y"]))
    assert [one.types for one in typed] == [("B1",), ("C1",), ("D", "E2")]
    assert coverage(typed) == 1.0
    assert coverage(typed[:1]) is None


def test_choice_by_hand():
    """Three questions: the probe finds the one right sample of b, and errs on c."""
    drawn = samples("a", 4, ["x"] * 2) + samples("b", 1, ["x"] * 3 + [""] * 2) + samples("c", 2, list("xyzw"))
    chances = np.array([0.9, 0, 0, 0, 0.1, 0.2, 0.8, 0.3, 0.2, 0, 0.99, 0, 0.1, 0.1, 0.9, 0.2, 0, 0])
    greedy = [made(name="a", correct=1), made(name="b", correct=0), made(name="c", correct=1)]
    typed = taxonomy(drawn)
    found = choose(drawn, typed, chances, greedy)
    told = {name: values.tolist() for name, values in found.right.items()}
    assert told["greedy"] == [1, 0, 1]
    assert told["probe"] == [1, 1, 0]  # NO ANSWER counts 0, however sure the probe is
    assert told["majority"] == [1, 0, 1]
    assert told["oracle"] == [1, 1, 1]
    assert told["random"] == pytest.approx([4 / 6, 1 / 4, 2 / 6])
    assert found.chosen == (1, 1, 3)
    assert list(by_type(found, typed, fewest=1)) == ["all", "B2", "C2", "E2"]
    value, low, high = found.interval("probe")
    assert low <= value <= high
    without_c = choose(drawn, typed, chances, greedy[:2])  # its greedy answer has no label
    assert without_c.ids == ("a", "b") and without_c.right["probe"].tolist() == [1, 1]
    with pytest.raises(BadInput, match="No question with samples has a greedy answer"):
        choose(drawn, typed, chances, [made(name="z", correct=1)])
    with pytest.raises(BadInput, match="18 samples need as many probabilities; got 3"):
        choose(drawn, typed, chances[:3], greedy)


@pytest.fixture(scope="module")
def typed_world():
    """80 questions, half always right, half always wrong; feature 0 tells which."""
    typed = taxonomy(
        [a for i in range(80) for a in (samples(f"q{i}", 6, []) if i % 2 else samples(f"q{i}", 0, ["x"] * 6))]
    )
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (80, 5))
    x[:, 0] += [3 * one.is_of("B") for one in typed]
    return x, typed


def test_kinds_are_told_from_states_and_stay_with_them(typed_world):
    x, typed = typed_world
    found = type_scores(x, typed)
    assert set(found) == {"B", "C"}
    assert found["B"].value > 0.9
    assert found["B"].n == 80
    shuffled = type_scores(x, [typed[i] for i in np.random.default_rng(1).permutation(80)])
    assert abs(shuffled["B"].value - 0.5) < 0.2
    probe = ErrorTypeProbe.fit(x, typed)
    assert ((probe.predict_proba(x)["B"] > 0.5) == [one.is_of("B") for one in typed]).mean() > 0.9


def task(direction, n=120, seed=0, key="k", name="t"):
    """A task whose labels are told by `direction`."""
    rng = np.random.default_rng(seed)
    z = rng.integers(0, 2, n)
    states = rng.normal(0, 1, (n, 4))
    states += 2 * np.outer(2 * z - 1, direction)
    return TaskStates(
        store_of(states[:, None, None], [f"{name}{i}" for i in range(n)], key=key), z, rng.normal(0, 1, n)
    )


def test_transfer_between_tasks_of_one_direction_of_the_opposite_and_of_none():
    tasks = {
        "a": task([1, 0, 0, 0], seed=1, name="a"),
        "same": task([1, 0, 0, 0], seed=2, name="s"),
        "opposite": task([-1, 0, 0, 0], seed=3, name="o"),
        "other": task([0, 1, 0, 0], seed=4, name="x"),
    }
    found = generalise(tasks)
    table = {(r["trained on"], r["tested on"]): r for r in found.rows()}
    assert table["a", "a"]["AUC"] > 0.95
    assert table["a", "same"]["AUC"] > 0.95
    assert table["a", "opposite"]["AUC"] < 0.05
    assert table["a", "opposite"]["|AUC|"] > 0.95
    assert abs(table["a", "other"]["AUC"] - 0.5) < 0.35
    assert table["a", "same"]["over baseline"] == pytest.approx(table["a", "same"]["AUC"] - found.baseline[1])


def test_transfer_errors():
    one, two = task([1, 0, 0, 0]), task([1, 0, 0, 0], key="other")
    with pytest.raises(BadInput, match="at least two tasks; got a"):
        generalise({"a": one})
    with pytest.raises(ModelMismatch, match='"b" are of another model'):
        generalise({"a": one, "b": two})
    few = dataclasses.replace(one, z=np.array([1] * 110 + [0] * 10))
    with pytest.raises(BadInput, match='Task "b": 110 right and 10 wrong'):
        generalise({"a": one, "b": few})
