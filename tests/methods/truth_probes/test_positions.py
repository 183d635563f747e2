"""Tokens of the exact answer, against a plain search over all windows, for tokenizers of several kinds."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures_byte_tokens import byte_fallback
from fixtures_truth_probes import made
from gnomon.core.models import load_tokenizer, train_bpe, whole_words
from gnomon.core.models.sampling.text import completion_text
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.truth_probes.states import NAMED, places, token_span

BPE = train_bpe(["the capital of France is Paris, naïve café 北京 🙂"], 300)


def answered(tokenizer, text, exact, prompt="Q: where?\nA:", which=0):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    prompt_ids = tokenizer(prompt)["input_ids"]
    shown = completion_text(tokenizer, prompt_ids, ids)
    start = [i for i in range(len(shown)) if shown.startswith(exact, i)][which]
    return made(
        shown,
        prompt_ids=prompt_ids,
        output_ids=ids,
        exact_answer=exact,
        spans=[[start, start + len(exact)]],
        valid=1,
    )


def by_windows(tokenizer, answer):
    """Beginnings of the output decoded one by one: the last that is short of the span, and the first that fills it."""
    start, end = answer.spans[0]
    texts = [
        completion_text(tokenizer, answer.prompt_ids, answer.output_ids[:k])
        for k in range(len(answer.output_ids) + 1)
    ]
    whole = [text if answer.answer.startswith(text) else text.rstrip("\ufffd") for text in texts]
    last = next(k for k, text in enumerate(whole) if len(text) >= end) - 1
    first = max(k for k, text in enumerate(whole[: last + 1]) if len(text) <= start)
    while first and len(whole[first - 1]) == len(whole[first]):
        first -= 1
    return first, last


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from(["Paris", "café", "北京", "🙂", "x", "12", "."]), min_size=1, max_size=8),
    st.data(),
)
def test_it_finds_the_tokens_that_a_plain_search_finds(words, data):
    text = " " + " ".join(words)
    exact = data.draw(st.sampled_from(words))
    answer = answered(BPE, text, exact)
    found = token_span(BPE, answer)
    assert found == by_windows(BPE, answer)
    shown = completion_text(BPE, answer.prompt_ids, answer.output_ids[found[0] : found[1] + 1])
    assert exact in shown


PLAIN = [
    *range(33, 127),
    *range(161, 173),
    *range(174, 256),
]  # bytes that byte-level BPE writes as themselves
BYTES = {chr(byte): byte for byte in PLAIN}
BYTES |= {chr(256 + i): byte for i, byte in enumerate(byte for byte in range(256) if byte not in PLAIN)}


def bytes_of(tokenizer, token):
    """The bytes that a token writes, from its piece alone."""
    piece = tokenizer.convert_ids_to_tokens(token)
    if piece.startswith("<0x"):
        return bytes([int(piece[3:5], 16)])
    if tokenizer.unk_token == "<unk>":  # pieces with spaces written as \u2581
        return piece.replace("\u2581", " ").encode()
    return bytes(BYTES[sign] for sign in piece)


def by_offsets(tokenizer, answer):
    """First and last token that write a byte of the exact answer, by a scan along the bytes of all tokens."""
    pieces = [bytes_of(tokenizer, token) for token in answer.output_ids]
    whole = b"".join(pieces).decode()
    assert whole.endswith(answer.answer)  # the prompt's end may hold back a space
    before = len(whole) - len(answer.answer)
    start, end = (len(whole[: before + at].encode()) for at in answer.spans[0])
    offset, inside = 0, []
    for k, piece in enumerate(pieces):
        if offset < end and offset + len(piece) > start:
            inside.append(k)
        offset += len(piece)
    return inside[0], inside[-1]


TOKENIZERS = {
    "words and bytes": lambda: BPE,
    "bytes alone": lambda: train_bpe(["a"], 259),
    "pieces across characters": lambda: train_bpe(["Paris\u5317\u4eac", "Paris\U0001f642 is Paris \u5317\u4eac\u5e02"] * 3, 320),
    **{style: lambda style=style: byte_fallback(style) for style in ("llama", "mistral", "gemma")},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_thousand_random_answers_beside_emoji_and_cjk(name):
    """Each as by a scan along the bytes of the tokens, among them answers that emoji or CJK follow without a space."""
    tokenizer, random = TOKENIZERS[name](), Random(0)
    parts = [
        "Paris",
        "12",
        "\u00e9",
        "\u5317\u4eac",
        "\U0001f642",
        "\U0001f469\u200d\U0001f680",
        " ",
        "x",
        ".",
        "\n",
    ]
    wrong = []
    for _ in range(1000):
        before, after = (random.choices(parts, k=random.randint(0, 4)) for _ in range(2))
        exact = random.choice(parts[:5])
        text = " " + "".join([*before, exact, random.choice(["\U0001f642", "\u5317", " ", ""]), *after])
        answer = answered(tokenizer, text, exact)
        if token_span(tokenizer, answer) != by_offsets(tokenizer, answer):
            wrong.append(text)
    assert not wrong


@pytest.mark.parametrize("name", TOKENIZERS)
def test_an_answer_that_was_cut_off_within_a_character(name):
    tokenizer = TOKENIZERS[name]()
    full = tokenizer(" Paris \u5317\u4eac\U0001f642", add_special_tokens=False)["input_ids"]
    prompt = tokenizer("Q: where?\nA:")["input_ids"]
    for count in range(1, len(full)):
        shown = completion_text(tokenizer, prompt, full[:count])
        if "Paris" not in shown:
            continue
        start = shown.index("Paris")
        fields = {"prompt_ids": prompt, "exact_answer": "Paris", "spans": [[start, start + 5]], "valid": 1}
        cut = made(shown, output_ids=full[:count], **fields)
        uncut = answered(tokenizer, " Paris \u5317\u4eac\U0001f642", "Paris")
        assert token_span(tokenizer, cut) == by_offsets(tokenizer, uncut), count


def test_a_character_of_several_tokens_begins_at_the_first_of_them():
    answer = answered(train_bpe(["a"], 259), "ab🙂c", "🙂")
    assert token_span(train_bpe(["a"], 259), answer) == (2, 5)


def test_the_first_of_two_places_is_read():
    first, second = (answered(BPE, " 12 and 12 and 1212", "12", which=k) for k in (0, 1))
    assert token_span(BPE, first)[0] < token_span(BPE, second)[0]


def test_the_prompt_is_not_searched():
    answer = answered(BPE, " It is Paris", "Paris", prompt="Q: Is it Paris?\nA:")
    first = places(BPE, answer, ["exact_first"])[0]
    assert first >= len(answer.prompt_ids)


@pytest.mark.slow
def test_sentencepiece_and_its_spaces(shared_data):
    tokenizer = load_tokenizer(shared_data / "models" / "stories260K")
    answer = answered(tokenizer, "Once upon a time there was Lily", "Lily")
    first, last = token_span(tokenizer, answer)
    assert (first, last) == by_windows(tokenizer, answer)
    assert last == len(answer.output_ids) - 1


def test_named_places_by_hand():
    """Prompt `<s> Q: A:` is 0..2; output `f a b f </s>` is 3..7; the exact answer is `a b`."""
    tokenizer = whole_words(["Q:", "A:", "f", "a", "b"], begins=True)
    prompt = tokenizer("Q: A:")["input_ids"]
    ids = [*tokenizer("f a b f", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    answer = made(" f a b f", prompt_ids=prompt, output_ids=ids, exact_answer="a b", spans=[[3, 6]], valid=1)
    found = dict(zip(NAMED, places(tokenizer, answer, ["all"]), strict=True))
    assert found == {
        "last_q": 2, "first_answer": 3, "second_answer": 4, "exact_before_first": 3, "exact_first": 4, "exact_last": 5,
        "exact_after_last": 6, "-8": 0, "-7": 1, "-6": 2, "-5": 3, "-4": 4, "-3": 5, "-2": 6, "-1": 7,
    }  # fmt: skip


def test_places_behind_the_end_are_the_end():
    tokenizer = whole_words(["Q:", "A:", "a"], begins=True)
    answer = made(
        " a",
        prompt_ids=tokenizer("Q: A:")["input_ids"],
        output_ids=[6],
        exact_answer="a",
        spans=[[1, 2]],
        valid=1,
    )
    assert places(tokenizer, answer, ["exact_after_last", "second_answer", "exact_before_first"]) == [3, 3, 2]


def test_errors():
    answer = answered(BPE, " Paris", "Paris")
    with pytest.raises(BadConfig, match=r'no position "exactlast".*"exact_last"'):
        places(BPE, answer, ["exactlast"])
    with pytest.raises(BadConfig, match="different names"):
        places(BPE, answer, ["-1", "-1"])
    with pytest.raises(BadInput, match="has no exact answer"):
        places(BPE, made("Paris"), ["exact_last"])
    with pytest.raises(BadInput, match="is empty"):
        places(BPE, made("", output_ids=[]), ["-1"])
    with pytest.raises(BadInput, match="do not spell it"):
        token_span(
            BPE, made("Paris", output_ids=[4], prompt_ids=[5], exact_answer="Paris", spans=[[0, 5]], valid=1)
        )
