import math
import sys
import types

import pytest

from gnomon.core.metrics.squad import token_f1
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.crispo import Example, Metric, metric_of, open_metrics
from gnomon.methods.crispo.scoring import STAND_IN, exact_match


def score(name, predictions, outputs, sources=None, **options):
    rows = [Example(str(i), "in", output) for i, output in enumerate(outputs)]
    (metric,) = open_metrics([name], **options)
    return metric.score(predictions, rows, sources or ["in"] * len(rows))


def test_rouge_by_hand():
    """the cat sat | the cat sat on it: 3 of 3 and 3 of 5 words, F = 2*1*.6/1.6 = .75."""
    predictions, references = ["The cat sat."], ["the cat sat on it"]
    assert score("rouge1", predictions, references) == [pytest.approx(0.75)]
    assert score("rouge1.precision", predictions, references) == [1.0]
    assert score("rouge1.recall", predictions, references) == [pytest.approx(0.6)]
    assert score("rouge2", predictions, references) == [pytest.approx(2 * 1 * 0.5 / 1.5)]
    assert score("rougeL", ["a b"], [["x y", "a b"]]) == [1.0]  # the best of several references


def test_exact_match_and_squad_f1_by_hand():
    assert score("em", [" PARIS", "Paris."], [["Rome", "paris"], "Paris"]) == [1.0, 0.0]
    assert exact_match("a", "A") == 1
    assert score("f1", ["The cat, sat", "", "x"], ["a cat", "the", "y"]) == [pytest.approx(2 / 3), 1.0, 0.0]
    assert token_f1("a b b", "b b c") == pytest.approx(2 * 2 / 5)  # "a" is an article


def test_accuracy_reads_labels():
    assert score("accuracy", ["(b).", "A or B", "The answer is C", "d"], ["B", "B", "C", "A"]) == [1, 0, 1, 0]


def test_faithfulness_without_a_checkpoint_is_named_as_what_it_is():
    (metric,) = open_metrics(["faithfulness"])
    assert metric.name == STAND_IN == "token support"
    rows = [Example(str(i), "", "y") for i in range(3)]
    sources = ["The council met 12 times."] * 3
    found = metric.score(["Council met", "Council met 13 times", ""], rows, sources)
    assert found == [1.0, 0.75, 0.0]


def test_a_metric_that_gives_nonsense_is_told_with_the_row():
    rows = [Example("r7", "", "y")]
    for value, says in (
        (math.nan, 'gave nan for row "r7"'),
        (1.5, "must be within 0 and 1"),
        (-0.1, "gave -0.1"),
    ):
        with pytest.raises(BadInput) as told:
            metric_of(lambda p, r, s, value=value: value, "mine").score(["x"], rows, [""])
        assert says in str(told.value)
        assert '"mine"' in str(told.value)
    few = Metric("few", lambda p, r, s: [])
    with pytest.raises(BadInput, match="gave 0 scores for 1 rows"):
        few.score(["x"], rows, [""])


def test_metrics_of_the_user_s_own(monkeypatch, tmp_path):
    module = types.ModuleType("my_metrics")

    def words(prediction, reference, source):
        return len(prediction.split())

    words.high, words.higher_is_better = 100.0, False
    words.describe = lambda scores: f"{sum(scores) / len(scores):.1f} words"
    module.words = words
    module.whole = Metric("whole", lambda p, r, s: [1.0] * len(p))
    monkeypatch.setitem(sys.modules, "my_metrics", module)
    (metric,) = open_metrics(["my_metrics:words"])
    assert metric.score(["a b c"], [Example("1", "", "x")], [""]) == [3.0]
    assert (metric.better(3), metric.shown([3.0, 4.0]), metric.high) == (-3, "3.5 words", 100.0)
    assert open_metrics(["my_metrics:whole"]) == [module.whole]
    with pytest.raises(BadInput, match='has no function "word"'):
        open_metrics(["my_metrics:word"])


PROGRAM = "import sys,json\nfor l in sys.stdin: print(float(json.loads(l)['prediction'] == json.loads(l)['reference']))"


def test_a_command_scores(tmp_path):
    program = tmp_path / "metric.py"
    program.write_text(PROGRAM)
    name = f'command:{sys.executable} "{program}"'
    assert score(name, ["a\nb", "c"], ["a\nb", "d"]) == [1.0, 0.0]
    for text, says in (
        ("print('x')", 'wrote "x" for row "0"'),
        ("pass", "wrote 0 numbers for 1 rows"),
        ("raise SystemExit('no luck')", "ended with code 1: no luck"),
        ("print(2)", "must be within 0 and 1"),
    ):
        program.write_text(text)
        with pytest.raises(BadInput) as told:
            score(name, ["a"], ["a"])
        assert says in str(told.value)
    for wrong in ("command:", "command:no-such-program"):
        with pytest.raises(BadConfig, match="cannot be run"):
            score(wrong, ["a"], ["a"])


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["rogue1"], 'no metric "rogue1". Did you mean "rouge1"?'),
        (["rouge1.f"], "no metric"),
        ([], "one name or more"),
        (["em", "em"], "each once"),
    ],
)
def test_misspelt_metrics(names, says):
    with pytest.raises(BadConfig) as told:
        open_metrics(names)
    assert says in str(told.value)


def test_scores_are_shown_in_percent_with_two_decimals():
    (metric,) = open_metrics(["em"])
    assert metric.shown([1.0, 0.0, 0.0]) == "33.33"
    assert Metric("m", lambda *_: [], high=10).shown([2.5]) == "2.50"


def test_rouge_advises_only_where_key_phrases_can_be_moved():
    rows = [Example("a", "", "one two three four")]
    assert open_metrics(["rouge1"])[0].advise is None
    (metric,) = open_metrics(["rouge1"], slots=["input", "keyphrases"])
    assert "recall (25.00) is lower than precision (100.00): cover more" in metric.advise(["one"], rows)
    assert "leave out" in metric.advise(["one two three four five six"], rows)


@pytest.mark.slow
def test_a_checkpoint_measures_faithfulness_under_its_own_name(tiny_tokenizer, tmp_path):
    from transformers import BertConfig, BertForSequenceClassification

    from gnomon.core.metrics.support import SupportScorer
    from gnomon.core.rng import Rng, seeded

    config = BertConfig(
        vocab_size=len(tiny_tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        pad_token_id=tiny_tokenizer.pad_token_id, id2label={0: "contradiction", 1: "entailment"},
        label2id={"contradiction": 0, "entailment": 1},
    )  # fmt: skip
    with seeded(Rng(0)):
        BertForSequenceClassification(config).save_pretrained(tmp_path / "nli")
    tiny_tokenizer.save_pretrained(tmp_path / "nli")
    (metric,) = open_metrics(["faithfulness"], support=str(tmp_path / "nli"))
    assert metric.name == "NLI nli"
    rows = [Example("a", "", "y"), Example("b", "", "y")]
    found = metric.score(["A text.", ""], rows, ["A source.", "A source."])
    assert found == [pytest.approx(SupportScorer(tmp_path / "nli").score("A text.", "A source.")), 0.0]


@pytest.mark.slow
def test_real_dialogues_are_read_and_scored_as_the_reference_does(shared_data):
    """Columns of a published file; the lead of each dialogue against its summary, as rouge-score has it."""
    from rouge_score.rouge_scorer import RougeScorer

    from gnomon.methods.crispo import read_examples

    columns = {"dialogue": "input", "summary": "output"}
    rows = read_examples(str(shared_data / "dialogue" / "dialogsum.dev.jsonl"), columns=columns, limit=60)
    lead = ["\n".join(row.input.split("\n")[:2]) for row in rows]
    reference = RougeScorer(["rouge1", "rougeL"], use_stemmer=True)
    for metric in open_metrics(["rouge1", "rougeL"]):
        found = metric.score(lead, rows, [row.input for row in rows])
        theirs = [
            reference.score(row.references[0], text)[metric.name].fmeasure
            for row, text in zip(rows, lead, strict=True)
        ]
        assert found == pytest.approx(theirs, abs=1e-12)
    assert len(rows) == 60
