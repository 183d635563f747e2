"""Questions from files of every kind, and from the columns of public data sets."""

import csv
import json

import pyarrow
import pyarrow.parquet
import pytest

from gnomon.errors import BadConfig, BadInput
from gnomon.methods.truth_probes import read_questions
from gnomon.methods.truth_probes.answers import NLI, TASKS, open_hub, parse_columns, task_of

ROWS = [
    {
        "question": "Capital of France?",
        "answer": ["Paris", "City of Light"],
        "wrong_answer": "Lyon",
        "id": "a",
        "level": 3,
    },
    {"question": "Two and two?", "answer": "4", "id": "b"},
]


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_jsonl_keeps_other_columns(tmp_path):
    first, second = read_questions(lines(tmp_path / "q.jsonl", ROWS))
    assert (first.gold, first.wrong, first.id, first.meta) == (
        ("Paris", "City of Light"),
        ("Lyon",),
        "a",
        {"level": 3},
    )
    assert (second.gold, second.wrong, second.task) == (("4",), (), "open")


def test_csv_and_parquet_say_the_same(tmp_path):
    (tmp_path / "q.csv").write_text(
        'question,answer,id\n"Capital of France?","[""Paris"", ""City of Light""]",a\nTwo and two?,4,b\n'
    )
    pyarrow.parquet.write_table(
        pyarrow.table(
            {
                "question": [r["question"] for r in ROWS],
                "answer": [["Paris", "City of Light"], ["4"]],
                "id": ["a", "b"],
            }
        ),
        tmp_path / "q.parquet",
    )
    found = [read_questions(str(tmp_path / name)) for name in ("q.csv", "q.parquet")]
    assert [(q.question, q.gold, q.id) for q in found[0]] == [(q.question, q.gold, q.id) for q in found[1]]


def test_a_question_without_id_has_one_made_of_its_text(tmp_path):
    rows = [
        {"question": "A?", "answer": "x"},
        {"question": "B?", "answer": "x"},
        {"question": "A?", "answer": "x"},
    ]
    found = read_questions(lines(tmp_path / "q.jsonl", rows))
    assert len(found) == 2  # the third is the first again
    assert len({q.id for q in found}) == 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "A?"}, 'line 1: field "answer" is missing'),
        ({"question": " ", "answer": "x"}, '"question" is empty'),
        ({"question": "A?", "answer": []}, '"answer" is empty'),
        ({"question": "A?", "answer": ["x", " "]}, '"answer" is empty'),
        ({"question": 3, "answer": "x"}, '"question" must be a string'),
    ],
)
def test_bad_rows(tmp_path, row, message):
    with pytest.raises(BadInput, match=message):
        read_questions(lines(tmp_path / "q.jsonl", [row]))


def test_one_id_names_one_question(tmp_path):
    rows = [{"question": "A?", "answer": "x", "id": "1"}, {"question": "B?", "answer": "x", "id": "1"}]
    with pytest.raises(BadInput, match='line 2: the id "1" belongs to another question'):
        read_questions(lines(tmp_path / "q.jsonl", rows))


def test_a_ragged_csv_is_told_with_its_line(tmp_path):
    (tmp_path / "q.csv").write_text("question,answer\nA?,x,y\n")
    with pytest.raises(BadInput, match="line 2: the row has not as many cells"):
        read_questions(str(tmp_path / "q.csv"))


def test_nothing_there(tmp_path):
    (tmp_path / "q.jsonl").write_text("\n")
    with pytest.raises(BadInput, match="holds no questions"):
        read_questions(str(tmp_path / "q.jsonl"))
    with pytest.raises(BadConfig, match=r'no task "trivia".*"triviaqa"'):
        task_of("trivia")


WINOBIAS = (
    "The",
    "developer",
    "argued",
    "with",
    "the",
    "designer",
    "because",
    "she",
    "did",
    "not",
    "like",
    "the",
    "design",
    ".",
)

HUB = {
    "triviaqa": (
        {"question": "Who?", "question_id": "t1", "answer": {"value": "Sunset Blvd", "aliases": ["Sunset Boulevard"]}},
        "Who?", ("Sunset Blvd", "Sunset Boulevard"), (), "",
    ),
    "hotpotqa-context": (
        {"id": "h1", "question": "Which?", "answer": "yes", "supporting_facts": {"title": ["A"]},
         "context": {"title": ["A", "B"], "sentences": [["One. ", "Two."], ["Three."]]}},
        "Which?", ("yes",), (), "A: One. Two.\nB: Three.",
    ),
    "nq-context": (
        {"subset": "NaturalQuestionsShort", "qid": "n", "question": "when", "answers": ["1990", "in 1990"],
         "context": "It was 1990."},
        "when", ("1990", "in 1990"), (), "It was 1990.",
    ),
    "winogrande": (
        {"sentence": "The bag fits because _ is small.", "option1": "bag", "option2": "box", "answer": "1"},
        "The bag fits because _ is small.\nWho or what stands in place of the _: bag or box?", ("bag",), ("box",), "",
    ),
    "winobias": (
        {"tokens": list(WINOBIAS),
         "coreference_clusters": ["0", "1", "7", "7"]},
        'The developer argued with the designer because she did not like the design.\nWhom does "she" refer to?',
        ("developer",), ("designer",), "",
    ),
    "nli": (
        {"premise": "It rains.", "hypothesis": "It is wet.", "label": 0},
        "Premise: It rains.\nHypothesis: It is wet.\nIs this entailment, neutral or contradiction?",
        NLI["entailment"], (*NLI["neutral"], *NLI["contradiction"]), "",
    ),
    "imdb": (
        {"text": "Fine film.", "label": 1},
        "Fine film.\nIs this review positive or negative?", ("positive",), ("negative",), "",
    ),
    "math": ({"question": "9 * 2?", "answer": "It is <<9*2=18>>18.\n#### 18"}, "9 * 2?", ("18",), (), ""),
    "movies": (
        {"movie": "Alien", "character": "Ripley", "actor": "Sigourney Weaver"},
        "Who acted as Ripley in the movie Alien?", ("Sigourney Weaver",), (), "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("task", HUB)
def test_rows_in_the_columns_of_public_data_sets(tmp_path, task):
    row, *expected = HUB[task]
    (found,) = read_questions(lines(tmp_path / "q.jsonl", [row]), task)
    assert [found.question, found.gold, found.wrong, found.context] == expected
    assert found.task == task


def test_rows_without_an_answer_are_left_out(tmp_path):
    rows = [
        {"premise": "a", "hypothesis": "b", "label": -1},
        {"premise": "a", "hypothesis": "b", "label": 2},
    ]
    assert len(read_questions(lines(tmp_path / "q.jsonl", rows), "nli")) == 1
    rows = [
        {"question": "x?", "answer": [3], "answerable": True},
        {"question": "y?", "answer": [], "answerable": False},
    ]
    assert [q.gold for q in read_questions(lines(tmp_path / "m.jsonl", rows), "math")] == [("3",)]


def test_hotpot_without_context(tmp_path):
    (found,) = read_questions(lines(tmp_path / "q.jsonl", [HUB["hotpotqa-context"][0]]), "hotpotqa")
    assert found.context == ""


@pytest.mark.slow
def test_a_data_set_opened_through_the_library(tmp_path):
    """The hub itself is out of reach; a folder goes the same way."""
    rows = [HUB["imdb"][0] | {"text": f"film {i}"} for i in range(3)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "test-00000-of-00001.parquet")
    found = list(open_hub(TASKS["imdb"], repo=tmp_path))
    assert [raw["text"] for _, raw in found] == ["film 0", "film 1", "film 2"]
    assert found[0][0].endswith(":test, row 1")
    with pytest.raises(BadInput, match="could not be opened"):
        list(open_hub(TASKS["imdb"], "nosuchsplit", repo=tmp_path))


def test_a_task_without_a_data_set_says_what_to_give():
    with pytest.raises(BadInput, match="movie, character, actor"):
        read_questions("movies", "movies")


def test_real_gsm8k(shared_data):
    found = read_questions(str(shared_data / "math" / "gsm8k_test.jsonl"), "math")
    assert found[0].gold == ("18",)
    assert all(q.gold[0].replace(",", "").lstrip("-").replace(".", "").isdigit() for q in found)


def test_a_table_with_columns_of_ones_own(tmp_path):
    (tmp_path / "q.csv").write_text(
        "Frage,Antworten,Falsch,n,question\nHauptstadt?,\"['Paris', 'Paris, France']\",Lyon,7,no question\n"
    )
    columns = {"question": "Frage", "answer": "Antworten", "wrong_answer": "Falsch", "id": "n"}
    (question,) = read_questions(str(tmp_path / "q.csv"), columns=columns)
    assert (question.question, question.gold, question.wrong, question.id) == (
        "Hauptstadt?",
        ("Paris", "Paris, France"),
        ("Lyon",),
        "7",
    )
    with pytest.raises(BadInput, match=r'line 2: there is no column "Fragen".*"Frage"'):
        read_questions(str(tmp_path / "q.csv"), columns={"question": "Fragen"})
    with pytest.raises(BadInput, match=r'"answer" is missing.*"Frage", .*--columns answer=COLUMN'):
        read_questions(str(tmp_path / "q.csv"))
    (tmp_path / "r.csv").write_text("Frage,Answer\nHauptstadt?,Paris\n")
    (question,) = read_questions(str(tmp_path / "r.csv"), columns={"question": "Frage"})
    assert question.gold == ("Paris",)


def test_columns_are_read_as_they_are_typed():
    assert parse_columns(["question=Q", "answer=A,context=C"]) == {
        "question": "Q",
        "answer": "A",
        "context": "C",
    }
    for pairs, message in (
        (["quest=Q"], 'no field "quest".*"question"'),
        (["question"], "field=column pairs"),
        (["question=a,question=b"], "each field once"),
    ):
        with pytest.raises(BadConfig, match=message):
            parse_columns(pairs)


def test_names_of_columns_in_another_case(tmp_path):
    rows = [{"Question": "A?", "Answer": "x", "Wrong_Answer": "y", "Context": "c", "Other": 1}]
    (question,) = read_questions(lines(tmp_path / "q.jsonl", rows), "choice")
    assert (question.gold, question.wrong, question.context) == (("x",), ("y",), "c")
    assert question.meta == {"Other": 1}


@pytest.mark.parametrize("answer", ["entailment", "Entails", ["entailed"], "ENTAILMENT."])
def test_a_closed_task_knows_its_labels(tmp_path, answer):
    """Without the set, "It is neutral ... entailment" would count as right: no wrong answer would be known."""
    rows = [{"question": "A?", "answer": answer}]
    for task, row in (("nli", {}), ("open", {"task": "nli"})):
        (question,) = read_questions(lines(tmp_path / "q.jsonl", [rows[0] | row]), task)
        assert question.gold == NLI["entailment"]
        assert set(question.wrong) == {*NLI["neutral"], *NLI["contradiction"]}


def test_what_is_no_label_of_the_task_is_refused(tmp_path):
    all_labels = "its labels are entailment, neutral, contradiction"
    for answer, message in (("maybe", all_labels), (["entails", "neutral"], "one label")):
        with pytest.raises(BadInput, match=f"line 1.*{message}"):
            read_questions(lines(tmp_path / "q.jsonl", [{"question": "A?", "answer": answer}]), "nli")


@pytest.mark.parametrize(
    ("task", "label", "gold"),
    [
        ("nli", "2", NLI["contradiction"]), ("nli", "neutral", NLI["neutral"]), ("nli", 0, NLI["entailment"]),
        ("imdb", "1", ("positive",)), ("imdb", "pos", None), ("imdb", "positive", ("positive",)), ("imdb", 0, ("negative",)),
        ("nli", "7", None),
    ],
)  # fmt: skip
def test_labels_of_public_data_sets_as_numbers_texts_and_names(tmp_path, task, label, gold):
    row = {"premise": "a", "hypothesis": "b", "text": "Fine.", "label": label}
    path = lines(tmp_path / "q.jsonl", [row])
    if gold is None:
        with pytest.raises(BadInput, match='line 1: field "label" must be one of 0'):
            read_questions(path, task)
    else:
        assert read_questions(path, task)[0].gold == gold


def test_a_question_that_two_rows_ask_accepts_the_answers_of_both(tmp_path):
    rows = [{"question": "Who played himself?", "answer": a} for a in ("Allen", "Krauss", "Allen")]
    (question,) = read_questions(lines(tmp_path / "q.jsonl", rows))
    assert question.gold == ("Allen", "Krauss")
    rows = [{"question": "A?", "answer": "x", "wrong_answer": "y"}, {"question": "A?", "answer": "y"}]
    with pytest.raises(BadInput, match='line 2: "y" is accepted in one row and wrong in another'):
        read_questions(lines(tmp_path / "q.jsonl", rows))


def test_an_id_of_zero_is_an_id(tmp_path):
    rows = [{"question": "A?", "answer": "x", "id": 0}]
    assert read_questions(lines(tmp_path / "q.jsonl", rows))[0].id == "0"


@pytest.mark.parametrize(
    ("name", "task", "questions"),
    [("movie_qa_test.csv", "movies", 7764), ("AnswerableMath_test.csv", "math", 650), ("winobias_test.csv", "winobias", 1584)],
)  # fmt: skip
def test_the_papers_own_tables(shared_data, name, task, questions):
    """Every row of a table is in its questions; read by the standard library for comparison."""
    path = shared_data / "truth" / name
    with path.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    read = read_questions(str(path), task)
    assert len(read) == questions
    accepted = {(question.question, gold) for question in read for gold in question.gold}
    wrong = {(question.question, text) for question in read for text in question.wrong}
    for row in table:
        if task == "movies":
            assert (row["Question"].strip(), row["Answer"]) in accepted
        elif task == "math":
            assert (row["question"].strip(), row["answer"].strip("[]")) in accepted
        else:
            text = f"{row['sentence']}\n{row['q_instruct']}"
            assert (text, row["answer"]) in accepted
            assert (text, row["incorrect_answer"]) in wrong
