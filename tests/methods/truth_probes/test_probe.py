"""The detector: fitted, saved, used again elsewhere, refused where it does not belong; the grid, and the measures."""

import dataclasses
import json
import sys

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

import fixtures_process
from fixtures_truth_probes import made, spanned, store_of
from gnomon.errors import BadInput, ModelMismatch
from gnomon.methods.truth_probes import ErrorProbe, baselines, evaluate, heatmap
from gnomon.methods.truth_probes.probes import choose_layer, decisions, over_seeds
from gnomon.methods.truth_probes.states import NAMES, folds, require_both, split


@pytest.fixture(scope="module")
def world():
    """300 answers; layer 1, `exact_last` tells the label; layer 0 and `-1` tell nothing."""
    rng = np.random.default_rng(0)
    z = rng.integers(0, 2, 300)
    states = rng.normal(0, 1, (300, 2, 2, 8))
    states[:, 1, 0, 3] += 3 * z
    return store_of(states, [f"q{i}" for i in range(300)], ("exact_last", "-1")), z


@pytest.mark.slow
def test_save_and_load_in_another_process(world, tmp_path):
    store, z = world
    probe = ErrorProbe.fit(
        store.at(1), z, model_id="m", model_key="k", layer=1, task="open", metrics={"AUC": 0.9}
    )
    probe.save(tmp_path / "probe")
    assert sorted(p.name for p in (tmp_path / "probe").iterdir()) == ["probe.json", "probe.safetensors"]
    np.save(tmp_path / "x.npy", store.at(1))
    code = (
        "import sys, numpy as np; from pathlib import Path; from gnomon.methods.truth_probes import ErrorProbe\n"
        "p = ErrorProbe.load(Path(sys.argv[1]))\n"
        "print(repr(p.predict_proba(np.load(sys.argv[2])).tolist())); print(p.layer, p.task, p.metrics)"
    )
    done = fixtures_process.run([sys.executable, "-c", code, tmp_path / "probe", tmp_path / "x.npy"])
    first, second = done.stdout.splitlines()
    assert json.loads(first) == probe.predict_proba(store.at(1)).tolist()
    assert second == "1 open {'AUC': 0.9}"


def test_it_refuses_what_it_was_not_trained_on(world, tmp_path):
    store, z = world
    probe = ErrorProbe.fit(store.at(1), z, model_id="mine", model_key="k", layer=1)
    probe.predict(store)
    with pytest.raises(ModelMismatch, match='trained on "mine"'):
        probe.predict(dataclasses.replace(store, model_key="other"))
    with pytest.raises(ModelMismatch, match='reads "mlp"; the states are "residual"'):
        probe.predict(dataclasses.replace(store, site="residual"))
    with pytest.raises(ModelMismatch, match="width 8; this model has width 9"):
        probe.check("k", 9)
    with pytest.raises(BadInput, match="holds no probe"):
        ErrorProbe.load(tmp_path)


@pytest.mark.parametrize("name", ["probe.json", "probe.safetensors"])
def test_a_damaged_probe_is_told(world, tmp_path, name):
    store, z = world
    ErrorProbe.fit(store.at(1), z).save(tmp_path / "p")
    (tmp_path / "p" / name).write_bytes(b"{")
    with pytest.raises(BadInput, match="no probe"):
        ErrorProbe.load(tmp_path / "p")


def test_too_few_of_a_class_are_refused_with_the_counts():
    with pytest.raises(BadInput, match="19 right and 40 wrong answers; a probe needs at least 20 of each"):
        ErrorProbe.fit(np.ones((59, 2)), [1] * 19 + [0] * 40)
    require_both([1] * 20 + [0] * 20, "x")


def test_the_grid_finds_layer_and_token(world):
    store, z = world
    grid = heatmap(store, z, seeds=(0, 5))
    assert grid.best()[:2] == (1, "exact_last")
    assert grid.best("-1")[1] == "-1"
    assert grid.auc[1, 0] > 0.95
    assert abs(grid.auc[0, 1] - 0.5) < 0.2
    assert len(grid.rows()) == 4


@pytest.mark.slow
def test_jobs_do_not_change_the_grid(world):
    store, z = world
    assert (heatmap(store, z, jobs=2, seeds=(0, 1)).auc == heatmap(store, z, seeds=(0, 1)).auc).all()


def test_the_layer_is_chosen_on_questions_set_aside(world):
    store, z = world
    probe = choose_layer(store, z, "exact_last", seed=0)
    assert (probe.layer, probe.position) == (1, "exact_last")
    found = over_seeds(
        store.take(range(200)), z[:200], store.take(range(200, 300)), z[200:], "exact_last", (0, 5, 26)
    )
    assert found.layers == (1, 1, 1)
    assert found.mean > 0.9


def test_a_question_and_its_samples_stay_on_one_side():
    ids = [f"q{i // 10}" for i in range(500)]
    larger, smaller = split(ids, seed=3)
    assert {ids[i] for i in larger}.isdisjoint(ids[i] for i in smaller)
    assert len(smaller) == 100
    tested = []
    for train, test in folds(ids, 3, seed=0):
        assert {ids[i] for i in train}.isdisjoint(ids[i] for i in test)
        tested += test.tolist()
    assert sorted(tested) == list(range(500))


def test_the_order_of_rows_does_not_change_the_side():
    ids = [f"q{i}" for i in range(50)]
    forward, backward = ({ids[i] for i in split(ids, 1)[1]}, {ids[::-1][i] for i in split(ids[::-1], 1)[1]})
    assert forward == backward


def test_a_probe_that_reads_subjects_gains_nothing_from_a_split_by_question():
    """Samples share their question's state: split by row, identity would be worth everything."""
    rng = np.random.default_rng(0)
    ids = [f"q{i // 8}" for i in range(480)]
    z = np.repeat(rng.integers(0, 2, 60), 8)
    states = np.repeat(rng.normal(0, 1, (60, 1, 1, 48)), 8, 0)
    store = dataclasses.replace(
        store_of(states, ids), keys=tuple((n, 0, i % 8 + 1) for i, n in enumerate(ids))
    )
    assert abs(heatmap(store, z, seeds=(0, 1, 2, 3)).auc[0, 0] - 0.5) < 0.2
    rows = rng.permutation(480)
    leaked = ErrorProbe.fit(store.at(0)[rows[:400]], z[rows[:400]])
    assert ((leaked.predict_proba(store.at(0)[rows[400:]]) > 0.5) == z[rows[400:]]).mean() > 0.9


def test_decisions_are_about_errors():
    rng = np.random.default_rng(0)
    z, p = rng.integers(0, 2, 100), rng.random(100)
    found, truth, said = decisions(z, p), 1 - z, (p < 0.5).astype(int)
    expected = (
        accuracy_score(truth, said),
        precision_score(truth, said),
        recall_score(truth, said),
        f1_score(truth, said),
    )
    names = ("accuracy", "precision of errors", "recall of errors", "F1 of errors")
    assert [found[name] for name in names] == pytest.approx(list(expected))
    assert found["over majority"] == pytest.approx(found["accuracy"] - max(z.mean(), 1 - z.mean()))
    assert decisions([1, 1], [0.9, 0.8])["precision of errors"] is None


def test_detectors_are_sorted_and_one_class_gives_no_auc():
    found = evaluate(
        [1, 0, 1, 0], {"bad": [0, 1, 0, 1], "good": [1, 0, 1, 0]}, ["a", "b", "c", "d"], ["good"]
    )
    assert [(one.name, one.auc.value) for one in found] == [("good", 1.0), ("bad", 0.0)]
    assert found[1].row["|AUC|"] == 1.0
    assert found[0].decided and not found[1].decided
    assert evaluate([1, 1], {"probe": [0.1, 0.2]})[0].auc.value is None
    with pytest.raises(BadInput, match="no answer"):
        evaluate([], {"probe": []})


def test_baselines_by_hand():
    answer = spanned(
        " a b c",
        "b",
        output_ids=[1, 2, 3],
        logprobs=np.log([0.5, 0.2, 0.8]).tolist(),
        logits=[1.0, -2.0, 4.0],
        tokens=[1, 1],
    )
    found = {name: float(values[0]) for name, values in baselines([answer]).items()}
    assert set(found) == set(NAMES) and len(NAMES) == 16
    assert found["probas-mean"] == pytest.approx(0.5)
    assert (found["probas-min"], found["probas-max"], found["probas-last"]) == pytest.approx((0.2, 0.8, 0.8))
    assert (found["logits-mean"], found["logits-min"], found["logits-max"], found["logits-last"]) == (
        1.0,
        -2.0,
        4.0,
        4.0,
    )
    assert {found[f"logits-{pool}-exact"] for pool in ("mean", "min", "max", "last")} == {-2.0}
    with pytest.raises(BadInput, match="Give the tokenizer"):
        baselines([made()])
