"""Questions: the layouts of WMDP and MMLU, how they are asked, how answers are counted."""

import json

import pytest
import torch

from fixtures_elm import small_model, small_tokenizer
from gnomon.errors import BadInput
from gnomon.methods.elm import Question, ask, read_questions
from gnomon.methods.elm.texts import (
    Accuracy,
    Asked,
    completions_of,
    encode_questions,
    option_scores,
    prefix_ids,
    prompt_of,
    to_question,
)

FOUR = {"question": "Which?", "choices": ["a", "b", "c", "d"], "answer": 2}


def test_the_layouts(tmp_path):
    file = tmp_path / "wmdp.json"
    rows = [
        FOUR,
        {**FOUR, "answer": "B"},
        {**FOUR, "answer": "3"},
        {**FOUR, "choices": ["x", "y"], "answer": 1},
    ]
    file.write_text(json.dumps(rows))
    assert [q.answer for q in read_questions(file)] == [2, 1, 3, 1]
    assert [len(q.choices) for q in read_questions(file)] == [4, 4, 4, 2]
    lines = tmp_path / "mmlu.jsonl"
    lines.write_text("".join(json.dumps({**row, "subject": "x"}) + "\n" for row in rows))
    assert [q.answer for q in read_questions(lines)] == [2, 1, 3, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": 4}, r'"answer" must be 0 to 3 or a letter of ABCD; got 4'),
        ({"answer": -1}, r'"answer" must be 0 to 3'),
        ({"answer": "E"}, r'"answer" must be 0 to 3 or a letter of ABCD; got \'E\''),
        ({"answer": True}, r'"answer" must be 0 to 3'),
        ({"choices": ["a", "b"], "answer": "C"}, r'"answer" must be 0 to 1 or a letter of AB'),
        ({"choices": ["a", "b", "c"]}, r'"choices" must be a list of 4 texts \(or 2\)'),
        ({"choices": "abcd"}, r'"choices" must be a list of 4 texts'),
        ({"choices": ["a", "b", "c", 4]}, r'"choices" must be a list of 4 texts'),
        ({"question": " "}, r'"question" must be a text'),
        ({"question": 3}, r'"question" must be a text'),
    ],
)
def test_what_is_no_question_is_told_with_file_and_line(tmp_path, change, message):
    file = tmp_path / "q.jsonl"
    file.write_text(json.dumps(FOUR) + "\n" + json.dumps({**FOUR, **change}) + "\n")
    with pytest.raises(BadInput, match=r"q.jsonl, line 2: " + message):
        read_questions(file)


def test_missing_fields_and_empty_files(tmp_path):
    with pytest.raises(BadInput, match='row 1: field "answer" is missing'):
        to_question({"question": "x", "choices": []}, "row 1")
    file = tmp_path / "empty.jsonl"
    file.write_text("")
    with pytest.raises(BadInput, match="holds no questions"):
        read_questions(file)
    with pytest.raises(BadInput, match="no question to ask"):
        encode_questions(small_tokenizer(), [])


def test_the_prompt_names_letters():
    question = to_question(FOUR, "")
    assert prompt_of(question) == "Which?\nA. a\nB. b\nC. c\nD. d\nAnswer:"
    assert completions_of(question) == [" A", " B", " C", " D"]
    assert prompt_of(question, "options") == "Which?"
    assert completions_of(question, "options") == [" a", " b", " c", " d"]


def test_options_that_are_one_to_the_tokenizer_are_refused():
    with pytest.raises(BadInput, match="two options are the same to the tokenizer"):
        encode_questions(small_tokenizer(), [Question("z1 is", ("unknown", "words", "a", "b"), 0)], "options")


QUESTIONS = [
    Question("z1 is", ("zv1", "zv2", "zv3", "zv0"), 1),
    Question("the cat sees z2 is", ("zv5", "zv1", "zv2", "zv3"), 0),
]


def test_scores_are_the_options_log_probabilities_with_any_padding():
    tokenizer = small_tokenizer()
    model = small_model(tokenizer)
    asked = encode_questions(
        tokenizer, QUESTIONS, "options", prefix_ids(tokenizer, "text of expert in zor :")
    )
    found = option_scores(model, asked)
    for prompt, options, scores in zip(asked.prompts, asked.options, found, strict=True):
        with torch.no_grad():
            logp = model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
        assert torch.allclose(scores, logp[[o[0] for o in options]], atol=1e-5)
    assert prompt[:5] == tokenizer("text of expert in zor")["input_ids"]


def test_longer_options_are_summed_over_their_tokens():
    tokenizer = small_tokenizer()
    model = small_model(tokenizer)
    long = Question("z1 is", ("zv1 .", "zv2", "zv3 . the", "zv0"), 2)
    asked = encode_questions(tokenizer, [long], "options")
    (scores,) = option_scores(model, asked)
    for ids, score in zip(asked.options[0], scores, strict=True):
        whole = [*asked.prompts[0], *ids]
        with torch.no_grad():
            logp = model(torch.tensor([whole])).logits[0].log_softmax(-1)
        start = len(asked.prompts[0])
        wanted = sum(float(logp[i - 1, whole[i]]) for i in range(start, len(whole)))
        assert float(score) == pytest.approx(wanted, abs=1e-4)


class Says:
    """A model that always likes the same token best."""

    training, device = False, "cpu"

    def __init__(self, token):
        self.token = token

    def eval(self):
        return self

    def train(self, mode=True):
        return self

    def __call__(self, input_ids, **_):
        from types import SimpleNamespace

        logits = torch.zeros(*input_ids.shape, 10)
        logits[..., self.token] = 2.0
        return SimpleNamespace(logits=logits)


def test_accuracy_probability_and_distance_from_chance():
    asked = Asked([[1], [1], [1]], [[[3], [4], [5], [6]]] * 3, [0, 1, 0])
    found = ask(Says(3), asked)
    assert found.right == (True, False, True)
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.chance == 0.25
    e2 = torch.tensor(2.0).exp().item()
    assert found.probability == pytest.approx([e2 / (e2 + 3), 1 / (e2 + 3), e2 / (e2 + 3)])
    low, high = found.interval
    assert low < found.accuracy < high


def test_below_chance_is_off_chance_too():
    """An anti-answer: never right, which four options give a quarter of the time."""
    never = Accuracy((False,) * 8, (0.0,) * 8, 0.25)
    assert never.row["off chance"] == 0.25
    assert never.row["accuracy"] == 0.0
