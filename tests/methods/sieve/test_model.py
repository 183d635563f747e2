import json
import pickle
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest

from fixtures_cats import CARS, CATS, FILTER, card, saved_model, student
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.sieve import SieveModel
from gnomon.methods.sieve.choosing import cut
from gnomon.methods.sieve.fitting import read_card
from gnomon.methods.sieve.judging.filters import filter_of

LONG = f"{CATS[0]}. {CARS[0]}. {CARS[1]}."  # three snippets of at most eight words


@pytest.fixture
def model():
    return SieveModel.load(saved_model())


def test_pitfall_12_threshold_and_filter_travel_with_the_model(tmp_path):
    saved = SieveModel(student(), card(threshold=0.625, rule="mean", is_simulated=True)).save(tmp_path / "m")
    again = SieveModel.load(tmp_path / "m")
    assert again.card == saved.card and again.card.threshold == 0.625
    assert filter_of(again.card.filter, "card") == FILTER
    assert again.card.version and again.card == card(
        threshold=0.625, rule="mean", is_simulated=True, version=again.card.version
    )
    assert set(json.loads((tmp_path / "m" / "sieve.json").read_text())) == {
        "filter", "student", "snippet_tokens", "threshold", "objective", "base_rate", "score_range", "judge",
        "is_simulated", "labels", "rule", "version", "expected", "cuts", "stopped",
    }  # fmt: skip


def test_the_version_changes_with_weights_and_card_and_with_nothing_else(tmp_path):
    first = SieveModel(student(), card()).save(tmp_path / "a").card.version
    again = SieveModel(student(), card()).save(tmp_path / "b").card.version
    assert first == again == SieveModel.load(tmp_path / "a").save(tmp_path / "c").card.version
    moved = SieveModel(student(), card(threshold=0.4)).save(tmp_path / "d").card.version
    other = student()
    other.config = replace(other.config, l2=0.5)
    trained = SieveModel(other, card()).save(tmp_path / "e").card.version
    assert len({first, moved, trained}) == 3


def test_a_fresh_process_gives_the_same_scores(model):
    script = (
        "import json, sys\nfrom gnomon.methods.sieve.fitting.model import SieveModel\n"
        "print(json.dumps(SieveModel.load(sys.argv[1]).score(json.loads(sys.argv[2])).tolist()))"
    )
    texts = [*CATS, *CARS, LONG]
    done = subprocess.run(
        [sys.executable, "-c", script, str(saved_model()), json.dumps(texts)], capture_output=True, check=True
    )
    assert json.loads(done.stdout) == model.score(texts).tolist()


def test_it_learned_what_a_cat_is(model):
    assert model.passes([*CATS, *CARS]).tolist() == [True] * 3 + [False] * 3


def test_pitfall_10_text_is_cut_as_in_training(model):
    spans = model.student.token_spans(LONG)
    pieces = [LONG[a:b] for a, b in cut(LONG, spans, 8)]
    assert len(pieces) == 3
    scores, counts = model.score_snippets([LONG, " ", CATS[0]])
    assert counts.tolist() == [3, 0, 1]
    assert scores.tolist() == [*model.student.predict(pieces), *model.student.predict([CATS[0]])]


def test_rules_join_the_snippets_of_a_document():
    scores, counts = np.array([0.2, 0.9, 0.4, 0.6, 0.1]), np.array([3, 0, 2])
    expected = {"any": [0.9, 0.6], "mean": [0.5, 0.35], "first": [0.2, 0.6]}
    for rule, (first, second) in expected.items():
        model = SieveModel(student(), card(rule=rule))
        found = model.join(scores, counts)
        assert found[[0, 2]] == pytest.approx([first, second]) and np.isnan(found[1])
        assert model.decide(found).tolist() == [first >= 0.5, False, second >= 0.5]
    assert SieveModel.load(saved_model(), rule="mean").card.rule == "mean"
    with pytest.raises(BadConfig, match=r'no document rule "man". Did you mean "mean"\?'):
        SieveModel.load(saved_model(), rule="man")


def test_texts_without_a_word_have_no_score_and_do_not_pass(model):
    assert np.isnan(model.score(["", " \n"])).all() and model.score([]).tolist() == []
    assert model.passes(["", CATS[0]]).tolist() == [False, True]


def test_a_batch_of_lists_gets_lists_and_one_of_arrays_arrays(model):
    plain = model({"text": list(CATS), "id": [1, 2, 3]})
    assert list(plain) == ["text", "id", "sieve_score", "sieve_pass", "sieve_version"]
    assert plain["sieve_pass"] == [True] * 3 and plain["sieve_version"] == [model.card.version] * 3
    assert plain["sieve_score"] == model.score(CATS).tolist()
    arrays = model({"text": np.array(CARS, dtype=object), "id": np.arange(3)})
    assert arrays["sieve_pass"].dtype == bool and not arrays["sieve_pass"].any()
    assert arrays["sieve_score"].dtype == np.float64 and arrays["id"].tolist() == [0, 1, 2]
    assert model({"text": []})["sieve_score"] == []


@dataclass
class Page:
    text: str


def test_keep_takes_whatever_holds_a_text(model):
    assert model.keep(CATS[0]) is True and model.keep(CARS[0]) is False
    assert model.keep({"text": CATS[0], "id": 3}) is True
    assert model.keep(Page(CARS[0])) is False
    assert model.keep({"text": [CATS[0], CARS[0]]}) == [True, False]
    assert model.keep({"text": np.array([CATS[0], CARS[0]], dtype=object)}) == [True, False]
    other = SieveModel.load(saved_model(), text_field="body")
    assert other.keep({"body": CATS[0]}) is True


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m({"body": ["a"]}), 'no column "text"; it has body. Name the column'),
        (
            lambda m: m({"text": ["a", None]}),
            'Row 1 of the batch: column "text" must hold text; got NoneType',
        ),
        (lambda m: m({"text": "a"}), "takes batches of rows"),
        (
            lambda m: m(["a"]),
            "takes columns by name, such as {'text': ...}; got list".replace("...", r"\[...\]"),
        ),
        (lambda m: m.keep(3), "takes columns by name.*got int"),
        (lambda m: m.keep({"text": [1]}), "Row 0 of the batch"),
    ],
)
def test_bad_batches(model, call, message):
    with pytest.raises(BadInput, match=message):
        call(model)


def test_it_travels_without_its_weights(model):
    model.score(CATS)
    parcel = pickle.dumps(model)
    assert len(parcel) < 2000 and pickle.dumps(SieveModel.load(saved_model())) == parcel
    assert pickle.loads(parcel).score(CATS).tolist() == model.score(CATS).tolist()
    with pytest.raises(BadInput, match=r"Only a saved model can go to other processes. Call save"):
        pickle.dumps(SieveModel(student(), card()))


def test_pitfall_12_scores_outside_the_range_of_training(model):
    assert model.is_outside(np.array([0.05, 0.1, 0.5, 0.9, 0.95])).tolist() == [
        True,
        False,
        False,
        False,
        True,
    ]


def test_folders_that_hold_no_model(tmp_path):
    with pytest.raises(
        BadInput, match=r"nowhere does not exist. Name the folder that `gnomon sieve fit` left"
    ):
        SieveModel.load(tmp_path / "nowhere")
    with pytest.raises(BadInput, match=r"holds no sieve\.json"):
        SieveModel.load(tmp_path)
    shutil.copytree(saved_model(), tmp_path / "m")
    raw = json.loads((tmp_path / "m" / "sieve.json").read_text())
    for changes, message in (
        ({"threshold": "high"}, 'field "threshold" must be a number; got str'),
        ({"score_range": [0.1]}, "score_range must be two numbers"),
    ):
        (tmp_path / "m" / "sieve.json").write_text(json.dumps(raw | changes))
        with pytest.raises(BadInput, match=message):
            read_card(tmp_path / "m")
    (tmp_path / "m" / "sieve.json").write_text("{")
    with pytest.raises(BadInput, match=r"sieve\.json: not valid JSON"):
        read_card(tmp_path / "m")
    with pytest.raises(BadInput, match="A model needs a student"):
        SieveModel(None, card())


@pytest.mark.slow
def test_in_hugging_face_datasets(model):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    data = datasets.Dataset.from_dict({"text": [*CATS, *CARS], "id": list(range(6))})
    scored = data.map(model, batched=True, batch_size=4)
    assert scored["sieve_pass"] == [True] * 3 + [False] * 3
    assert scored["sieve_score"] == model.score([*CATS, *CARS]).tolist()
    assert data.filter(model.keep)["id"] == [0, 1, 2]
    assert data.filter(model.keep, batched=True)["id"] == [0, 1, 2]
    stream = data.to_iterable_dataset().map(model, batched=True).filter(model.keep)
    assert [row["id"] for row in stream] == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.scale
def test_in_hugging_face_datasets_with_processes(model):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    data = datasets.Dataset.from_dict({"text": [*CATS, *CARS]})
    assert data.map(model, batched=True, num_proc=2)["sieve_pass"] == [True] * 3 + [False] * 3


@pytest.mark.slow
def test_in_datatrove(model):
    pytest.importorskip("datatrove")
    from datatrove.data import Document
    from datatrove.pipeline.filters import LambdaFilter

    documents = [Document(text=text, id=str(number)) for number, text in enumerate([*CATS, *CARS])]
    step = pickle.loads(pickle.dumps(LambdaFilter(model.keep)))  # as its executors send it
    assert [document.id for document in step.run(iter(documents))] == ["0", "1", "2"]
