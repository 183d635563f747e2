import asyncio
import json

import pytest

from gnomon.errors import BadConfig, BadInput, ModelMismatch
from gnomon.methods.sieve import JudgeClient, LocalJudge, Snippet, open_judge
from gnomon.methods.sieve.judging import judge_all
from gnomon.methods.sieve.judging.filters import Filter

CATS = Filter("cats", "texts about cats", "a cat", "no cat")
TEXTS = ("A  cat.", "A dog.", "A bird.")
SNIPPETS = [Snippet(f"d{n}:0-9", f"d{n}", text, 0, 9) for n, text in enumerate(TEXTS)]


def labels(judge, snippets=SNIPPETS):
    return [verdict.label for verdict in judge_all(judge, snippets)]


def has_cat(text):
    return None if "bird" in text else "cat" in text


def test_a_function_is_a_judge():
    judge = LocalJudge(has_cat, "rule of cats")
    cat, dog, bird = judge_all(judge, SNIPPETS)
    assert (cat.label, dog.label, bird.label) == (1, 0, None)
    assert bird.problem == "the rule cannot say" and cat.model == "rule of cats" == judge.name
    assert asyncio.run(judge.ajudge(SNIPPETS))[0] == cat
    assert not judge.is_simulated and LocalJudge(has_cat, is_simulated=True).is_simulated


def test_a_function_of_the_snippet_sees_where_it_is_from():
    assert labels(LocalJudge(lambda snippet: int(snippet.doc_id == "d1"))) == [0, 1, 0]

    def annotated(s: Snippet):
        return s.doc_id == "d2"

    assert labels(LocalJudge(annotated)) == [0, 0, 1]


def test_a_rule_that_fails_or_answers_otherwise_is_told():
    with pytest.raises(BadInput, match="r must give true, false or None; got 'yes' for snippet d0:0-9"):
        labels(LocalJudge(lambda text: "yes", "r"))
    with pytest.raises(BadInput, match="r failed on snippet d0:0-9: ZeroDivisionError"):
        labels(LocalJudge(lambda text: 1 / 0, "r"))


def test_rules_by_file_and_by_module(tmp_path, monkeypatch):
    (tmp_path / "house_rules.py").write_text("def has_cat(text):\n    return 'cat' in text\n")
    by_file = open_judge(f"rule:{tmp_path}/house_rules.py:has_cat", CATS)
    assert labels(by_file) == [1, 0, 0] and by_file.name.endswith("house_rules.py:has_cat")
    monkeypatch.syspath_prepend(tmp_path)
    assert labels(open_judge("rule:house_rules:has_cat", CATS)) == [1, 0, 0]
    with pytest.raises(BadInput, match=r'has no function "has_cats". Did you mean "has_cat"'):
        open_judge("rule:house_rules:has_cats", CATS)
    with pytest.raises(BadInput, match='There is no module "house_rule"'):
        open_judge("rule:house_rule:has_cat", CATS)
    with pytest.raises(BadInput, match=r"nowhere\.py does not exist"):
        open_judge("rule:nowhere.py:has_cat", CATS)
    with pytest.raises(BadConfig, match="names no function"):
        open_judge("rule:house_rules", CATS)


@pytest.mark.parametrize("column", ["text", "snippet_id"])
def test_human_labels_in_a_table(tmp_path, column):
    keys = {"text": ("A cat.", "A\ndog."), "snippet_id": ("d0:0-9", "d1:0-9")}[column]
    path = tmp_path / "human.csv"
    path.write_text(f'\ufeff{column},label,note\n"{keys[0]}", Pass,x\n"{keys[1]}",0,\n', "utf-8")
    judge = open_judge(f"labels:{path}", CATS)
    assert labels(judge) == [1, 0, None]
    assert "no label for this snippet" in judge_all(judge, SNIPPETS)[2].problem


def test_human_labels_as_records(tmp_path):
    path = tmp_path / "human.jsonl"
    rows = [
        {"text": "A cat.", "label": True},
        {"snippet_id": "d1:0-9", "label": "fail"},
        {"text": "A bird.", "label": None},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert labels(open_judge(f"labels:{path}", CATS)) == [1, 0, None]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\na,maybe\n", "row 2: 'maybe' is no label. Write pass or fail"),
        ("text,verdict\na,pass\n", 'row 2: labels need a column "label"'),
        ("label\npass\n", 'a column "snippet_id" or "text"; the row has "label"'),
        (
            "text,label\na b,pass\na  b,fail\n",
            r"row 3: the label contradicts that of the same text at .*row 2",
        ),
        ("text,label\n\xff,pass\n", "not UTF-8"),
    ],
)
def test_pitfall_9_human_labels_that_cannot_be_used(tmp_path, content, message):
    path = tmp_path / "human.csv"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(BadInput, match=r"human\.csv.*" + message):
        open_judge(f"labels:{path}", CATS)
    with pytest.raises(BadInput, match="does not exist"):
        open_judge(f"labels:{tmp_path}/none.csv", CATS)


@pytest.fixture(scope="module")
def classifier(tiny_tokenizer, tmp_path_factory):
    """`classifier(labels)`: folder of a tiny saved sequence classifier."""
    import torch
    from transformers import GPT2Config, GPT2ForSequenceClassification

    def make(num_labels):
        folder = tmp_path_factory.mktemp(f"classifier{num_labels}")
        torch.manual_seed(num_labels)
        config = GPT2Config(
            vocab_size=len(tiny_tokenizer), n_positions=64, n_embd=16, n_layer=1, n_head=2,
            num_labels=num_labels, pad_token_id=tiny_tokenizer.pad_token_id or 0, initializer_range=1.0,
        )  # fmt: skip
        GPT2ForSequenceClassification(config).save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.mark.slow
@pytest.mark.parametrize("num_labels", [1, 2])
def test_any_classifier_is_a_judge(classifier, num_labels):
    folder = classifier(num_labels)
    judge = open_judge(f"classifier:{folder}", CATS)
    texts = [f"for i in range({n}): print(i)" * (1 + n % 3) for n in range(70)]
    many = [Snippet(f"d{n}:0-1", f"d{n}", text, 0, 1) for n, text in enumerate(texts)]
    found = judge.probabilities(texts)
    alone = [p for text in texts for p in judge.probabilities([text])]
    assert found == pytest.approx(alone, abs=1e-5)  # batches change nothing
    assert labels(judge, many) == [int(p >= 0.5) for p in found]
    assert 0 < sum(labels(judge, many)) < 70 or len({round(p, 4) for p in found}) > 10


@pytest.mark.slow
def test_classifiers_that_are_none(classifier, tmp_path):
    with pytest.raises(
        ModelMismatch, match="has 3 outputs; a judge needs a sequence classifier with at most 2"
    ):
        open_judge(f"classifier:{classifier(3)}", CATS)
    with pytest.raises(BadInput, match="none"):
        open_judge(f"classifier:{tmp_path}/none", CATS)


def test_language_models_by_reference(tmp_path, monkeypatch):
    (tmp_path / "cat_model.py").write_text(
        "def answer(request):\n"
        "    text = request.messages[1].content.split('</text>')[0]\n"
        "    return 'Verdict: PASS' if 'cat' in text else 'Verdict: FAIL'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    judge = open_judge("script:cat_model:answer", CATS)
    assert isinstance(judge, JudgeClient)
    assert labels(judge) == [1, 0, 0] and judge.name == "script:cat_model:answer"


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("rul:x:y", 'Judge "rul:x:y" is not known. Did you mean "rule"'),
        ("gpt-4o", 'Judge "gpt-4o" is not known'),
        ("labels:", 'Judge "labels:" names nothing. Write labels:FILE'),
    ],
)
def test_misspelt_judges(ref, message):
    with pytest.raises(BadConfig, match=message):
        open_judge(ref, CATS)


def test_another_opinion_of_a_language_model_is_asked_for_by_its_draw():
    many = [Snippet(f"d{n}:0-9", f"d{n}", f"cat {n}", 0, 9) for n in range(60)]
    ref = "sim:verdict?words=cat&false_negatives=0.5"
    draws = [labels(open_judge(ref, CATS, temperature=1.0, draw=draw), many) for draw in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert 10 < sum(draws[0]) < 50
