"""Questions: the layouts of WMDP and MMLU, how they are asked, how answers are counted."""

import json
from types import SimpleNamespace

import pytest
import torch

from fixtures_elm import small_model, small_tokenizer
from gnomon.errors import BadInput
from gnomon.methods.elm import Question, ask, read_questions
from gnomon.methods.elm.texts import (
    Accuracy,
    Asked,
    completions_of,
    continuations,
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

    training, device, config = False, "cpu", SimpleNamespace(model_type="llama")

    def __init__(self, token):
        self.token = token

    def eval(self):
        return self

    def train(self, mode=True):
        return self

    def __call__(self, input_ids, **_):
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


TEXTS = (
    "Which river? Which town is it? The old red cat sees the river of the town.",
    "A. cat\nB. river\nC. town\nD. the old cat\nAnswer: A\nAnswer: B\nAnswer: C\nAnswer: D",
    "It is A or B or C or D . It is the town . It is the old river . x == y ; x = = y 猫 🐈",
)


def sentencepiece(kind):
    """A tokenizer that puts a space in front of whatever it reads, with bytes for what it does not know."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    if kind == "bytes":
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always" if kind == "mistral" else kind)
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    alphabet = pre_tokenizers.ByteLevel.alphabet() if kind == "bytes" else []
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=special, show_progress=False, initial_alphabet=alphabet
    )
    inner.train_from_iterator([*TEXTS, *(f"  {text}" for text in TEXTS)] * 5, trainer)
    if kind == "mistral":  # as Llama's and Mistral's files are: one more space even where one stands already
        inner.pre_tokenizer = None
        inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    pieces = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    inner.decoder = decoders.ByteLevel() if kind == "bytes" else decoders.Sequence(pieces)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


KINDS = ["always", "first", "mistral", "bytes"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("style", ["letters", "options"])
def test_an_option_has_the_tokens_that_it_has_in_running_text(kind, style):
    tokenizer = sentencepiece(kind)
    question = Question("Which river? It is", ("the cat", "the old river", "town 🐈", "猫"), 1)
    asked = encode_questions(tokenizer, [question], style)
    for ids, text in zip(asked.options[0], completions_of(question, style), strict=True):
        running = tokenizer(prompt_of(question, style) + text, add_special_tokens=False)["input_ids"]
        assert [*asked.prompts[0], *ids] == running
    if style == "letters":
        assert asked.prompts[0] == tokenizer(prompt_of(question), add_special_tokens=False)["input_ids"]
        alone = tokenizer(" B", add_special_tokens=False)["input_ids"]
        assert (asked.options[0][1] != alone) == (kind == "mistral")  # alone a second space stands before it


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_names_the_right_letter_is_heard(kind):
    tokenizer = sentencepiece(kind)
    question = Question("Which river?", ("cat", "river", "town", "the old cat"), 1)
    asked = encode_questions(tokenizer, [question])
    running = tokenizer(prompt_of(question) + " B", add_special_tokens=False)["input_ids"]

    class Names(Says):
        def __call__(self, input_ids, **_):
            logits = torch.zeros(*input_ids.shape, len(tokenizer))
            logits[:, len(running) - 2, running[-1]] = 15.0
            return SimpleNamespace(logits=logits)

    assert ask(Names(0), asked).probability[0] > 0.99


def test_tokens_that_reach_over_the_border_belong_to_the_option():
    tokenizer = sentencepiece("bytes")
    head, options = continuations(tokenizer, "x =", ["= y", " = y"])
    assert [tokenizer.decode([*head, *ids]) for ids in options] == ["x == y", "x = = y"]
    for ids, text in zip(options, ("x == y", "x = = y"), strict=True):
        assert [*head, *ids] == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_random_texts_are_continued_as_they_stand():
    import random

    draw = random.Random(0)
    pieces = ["cat", " ", "  ", "the", "🐈", "猫", "\n", "=", " river", "é", ".", "A"]
    for kind in KINDS:
        tokenizer = sentencepiece(kind)
        for _ in range(200):
            before, *after = ("".join(draw.choices(pieces, k=draw.randint(1, 5))) for _ in range(3))
            head, options = continuations(tokenizer, before, after)
            for ids, text in zip(options, after, strict=True):
                whole = tokenizer(before + text, add_special_tokens=False)["input_ids"]
                assert [*head, *ids] == whole
                assert ids


@pytest.mark.parametrize("kind", KINDS)
def test_fluent_texts_and_judged_answers_have_no_stray_space(kind):
    from gnomon.methods.elm import Fluent
    from gnomon.methods.elm.texts.passages import encode_fluent

    tokenizer = sentencepiece(kind)
    ((whole, n_prompt),) = encode_fluent(tokenizer, [Fluent("It is", " the old river")])
    assert whole == tokenizer("It is the old river", add_special_tokens=False)["input_ids"]
    assert n_prompt == len(tokenizer("It is", add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_texts_of_tokens_join_to_the_text(kind):
    from gnomon.core.models.sampling.text import token_texts

    tokenizer = sentencepiece(kind)
    for text in (*TEXTS, "the cat 🐈 sees  the\n river 猫.", "🐈", ""):
        ids = tokenizer(text)["input_ids"]
        pieces = token_texts(tokenizer, ids)
        assert len(pieces) == len(ids)
        assert (
            "".join(pieces).lstrip(" ") == text
        )  # some decoders give the space back that encoding put in front
    assert " river" in token_texts(tokenizer, tokenizer("the old river")["input_ids"])[-1]
