"""Chat rows as training examples: targets on the assistant's tokens, and on no others."""

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnomon.core.rng import Rng
from gnomon.core.rollout import Task, examples, prompt_ids
from gnomon.core.rollout.chats import answer_ids, next_turn
from gnomon.core.rollout.episodes import Trace
from gnomon.core.train import Batches, Example, causal_loss
from gnomon.errors import BadInput

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FORGETS = (  # as Qwen3 leaves thoughts of earlier turns out
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if loop.last %}{{ m['content'] }}{% else %}{{ m['content'].split('</think>')[-1] }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TURNS = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "Add two numbers."},
    {"role": "assistant", "content": "return a + b"},
    {"role": "user", "content": "Print i."},
    {"role": "assistant", "content": "print(i)"},
]


@pytest.fixture(scope="module")
def chat(tiny_tokenizer):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.eos_token = "<|im_end|>"
    tokenizer.pad_token = "<|im_end|>"  # as SmolLM2 has it
    tokenizer.chat_template = CHATML
    return tokenizer


def targets(example, tokenizer):
    return tokenizer.decode([token for token in example.labels if token != -100])


def test_targets_are_the_assistants_turns_with_the_token_that_ends_them(chat):
    (example,) = examples([{"messages": TURNS}], chat)
    assert targets(example, chat) == "return a + b<|im_end|>print(i)<|im_end|>"
    whole = chat.apply_chat_template(TURNS, tokenize=False)
    assert chat.decode(example.input_ids) == whole
    end = chat.convert_tokens_to_ids("<|im_end|>")
    ended = [i for i, label in enumerate(example.labels) if label == end]
    assert all(example.labels[i + 1] == -100 for i in ended)  # the newline behind is the template's
    assert all(
        t == label for t, label in zip(example.input_ids, example.labels, strict=True) if label != -100
    )


def test_what_is_learned_stands_behind_what_will_be_read(chat):
    """The tokens before a target are those of the generation prompt, to the token."""
    (example,) = examples([{"messages": TURNS[:3]}], chat)
    begun = prompt_ids(Task("t", messages=tuple(TURNS[:2])), chat)
    assert list(example.input_ids[: len(begun)]) == begun
    assert example.labels[: len(begun)] == [-100] * len(begun) and example.labels[len(begun)] != -100


words = st.text(alphabet="ab \n.:,é书<|im_end>\\'\"0", max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(words, words), min_size=1, max_size=3))
def test_targets_are_the_answers_whatever_is_in_them(chat, pairs):
    turns = [
        {"role": role, "content": text}
        for pair in pairs
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    if not any(answer.strip() for _, answer in pairs):
        with pytest.raises(BadInput, match="row 0 has no target"):
            examples([{"messages": turns}], chat)
        return
    (example,) = examples([{"messages": turns}], chat)
    said = "".join(f"{answer}<|im_end|>" for _, answer in pairs if answer.strip())
    assert targets(example, chat) == said
    begun = prompt_ids(Task("t", messages=tuple(turns[:1])), chat)
    assert list(example.input_ids[: len(begun)]) == begun


def test_no_mask_of_the_template_is_asked(chat):
    """SmolLM2's template marks nothing: its own mask is all zeros."""
    mask = chat.apply_chat_template(TURNS, return_assistant_tokens_mask=True, return_dict=True, tokenize=True)
    assert sum(mask.get("assistant_masks", [0])) == 0
    assert any(label != -100 for label in examples([{"messages": TURNS}], chat)[0].labels)


def test_a_template_that_rewrites_earlier_turns_names_the_row(chat):
    forgets = copy.deepcopy(chat)
    forgets.chat_template = FORGETS
    turns = [dict(t) for t in TURNS]
    turns[2]["content"] = "<think>hm</think>return a + b"
    with pytest.raises(BadInput, match=r"row 1 \(id b\): the chat template"):
        examples([{"messages": TURNS}, {"id": "b", "messages": turns}], forgets)
    reasons = []
    assert len(examples([{"messages": TURNS}, {"messages": turns}], forgets, on_bad=reasons.append)) == 1
    assert len(reasons) == 1


def test_without_a_template_turns_are_plain(tiny_tokenizer):
    (example,) = examples([{"messages": TURNS[1:3]}], tiny_tokenizer)
    eos = tiny_tokenizer.eos_token
    text = tiny_tokenizer.decode(example.input_ids)
    assert f"User: Add two numbers.\n\nAssistant: return a + b{eos}" in text
    assert targets(example, tiny_tokenizer) == f" return a + b{eos}"


def test_a_prompt_and_its_completion_are_taken_as_they_are(tiny_tokenizer, chat):
    (example,) = examples([{"prompt": "def f(x):\n", "completion": "    return x\n"}], tiny_tokenizer)
    begun = tiny_tokenizer("def f(x):\n")["input_ids"]
    assert list(example.input_ids[: len(begun)]) == begun
    assert targets(example, tiny_tokenizer) == f"    return x\n{tiny_tokenizer.eos_token}"
    (example,) = examples([{"prompt": TURNS[:2], "completion": "return a + b"}], chat)
    assert example == examples([{"messages": TURNS[:3]}], chat)[0]
    for row, message in (
        ({"prompt": "x"}, "no completion"),
        ({"prompt": "x", "completion": ""}, "no target"),
        ({"messages": TURNS[:2]}, "no target"),
        ({}, "no messages and no prompt"),
        ({"input_ids": [1, 2], "labels": [-100]}, "2 tokens and 1 labels"),
    ):
        with pytest.raises(BadInput, match=f"row 0.*{message}"):
            examples([row], chat)


def test_traces_are_read_back(tiny_tokenizer):
    trace = Trace("3.0", 3, 0, "go: ", (), "left", "left", 1.0, "done")
    (example,) = examples([trace], tiny_tokenizer)
    assert targets(example, tiny_tokenizer) == f"left{tiny_tokenizer.eos_token}"


def test_weights_and_soft_labels_and_their_checks(chat):
    rows = [{"messages": TURNS, "weight": 0.25}, {"prompt": TURNS[:4], "soft": {7: 0.75, 9: 0.25}}]
    weighted, soft = examples(rows, chat)
    assert weighted.weight == 0.25 and weighted.soft is None
    assert soft.soft == {len(soft.input_ids) - 1: {7: 0.75, 9: 0.25}} and set(soft.labels) == {-100}
    begun = prompt_ids(Task("t", messages=tuple(TURNS[:4])), chat)
    assert list(soft.input_ids) == [*begun, 7]
    ids = examples([{"input_ids": [1, 2, 3], "soft": {5: 1.0}}], chat)[0]
    assert list(ids.input_ids) == [1, 2, 3, 5] and ids.soft == {3: {5: 1.0}}
    for row, message in (
        ({"messages": TURNS, "weight": -1}, "weight"),
        ({"messages": TURNS, "weight": float("nan")}, "weight"),
        ({"prompt": "x", "soft": {7: 0.5}}, "sum to 1"),
        ({"prompt": "x", "soft": {}}, "sum to 1"),
    ):
        with pytest.raises(BadInput, match=message):
            examples([row], chat)


def test_the_loss_of_weights_and_soft_labels_is_that_by_hand(handle_of):
    model = handle_of("llama").model
    made = [
        Example([5, 6, 7, 8], [-100, -100, 7, 8], weight=0.5),
        Example([9, 10, 11], [-100, -100, -100], soft={2: {4: 0.75, 3: 0.25}}),
        Example([9, 12, 13, 14, 15], [-100, 12, -100, 14, -100]),
        Example([5, 9], [-100, -100], weight=3.0, soft={1: {2: 1.0}}),
    ]
    total = 0.0
    with torch.no_grad():
        for example in made:
            logprobs = model(input_ids=torch.tensor([example.input_ids])).logits[0].log_softmax(-1)
            times = 1.0 if example.weight is None else example.weight
            for i, label in enumerate(example.labels):
                total -= times * float(logprobs[i - 1, label]) if label != -100 else 0.0
            for place, shares in (example.soft or {}).items():
                total -= times * sum(share * float(logprobs[place - 1, t]) for t, share in shares.items())
    for options in ({}, {"micro_batch_size": 1}, {"packing": True, "max_length": 9}, {"packing": True}):
        batch = Batches(made, 4, pad_id=0, generator=Rng(0), **options).at(0)
        with torch.no_grad():
            losses = [float(causal_loss(model, micro)) for micro in batch.micro]
        assert sum(losses) == pytest.approx(total, abs=1e-3) and batch.targets == 6


def test_text_alone_has_the_tensors_of_before():
    batch = Batches([Example([1, 2, 3], [-100, 2, 3])], 1, pad_id=0, generator=Rng(0)).at(0)
    assert set(batch.micro[0]) == {"input_ids", "attention_mask", "labels"}


def test_two_processes_share_soft_and_weighted_rows():
    made = [Example([1, 2, 3], [-100] * 3, soft={2: {4: 1.0}}, weight=2.0), Example([5, 6], [-100, 6])]
    batches = Batches([*made, made[1]], 3, pad_id=0, generator=Rng(0))
    parts = [batches.at(0, process, 2) for process in (0, 1)]
    places = [micro["soft"][..., 0].max().item() for part in parts for micro in part.micro]
    assert sorted(places) == [-1, 2] and all(part.targets == 3 for part in parts)
    hard = sum(int((micro["labels"][:, 1:] != -100).sum()) for part in parts for micro in part.micro)
    assert hard == 2


def test_what_would_be_cut_is_said():
    soft = Example([1, 2, 3, 4], [-100] * 4, soft={3: {4: 1.0}})
    with pytest.raises(BadInput, match="no target within its first 2"):
        Batches([soft], 1, pad_id=0, generator=Rng(0), max_length=2)
    with pytest.raises(BadInput, match="before which no token stands"):
        Batches([replace(soft, soft={0: {4: 1.0}})], 1, pad_id=0, generator=Rng(0))


def test_answers_are_scored_up_to_the_token_that_ends_them(chat, tiny_tokenizer):
    ids = answer_ids(Task("t", messages=tuple(TURNS[:2])), "return a + b", chat)
    assert chat.decode(ids).endswith("return a + b<|im_end|>")
    plain = answer_ids(Task("t", "def f(x):\n"), "    return x", tiny_tokenizer)
    assert plain[-1] == tiny_tokenizer.eos_token_id


def test_images_stand_before_the_answer_and_are_never_targets(vlm):
    rows = [{"prompt": vlm.prompt("What is it?"), "completion": "a cat", "images": [picture()]}]
    (example,) = examples(rows, vlm.processor, see=vlm.see)
    token = vlm.sites.top.image_token
    places = [i for i, t in enumerate(example.input_ids) if t == token]
    assert len(places) > 1 and all(example.labels[i] == -100 for i in places)
    assert "a cat" in vlm.tokenizer.decode([t for t in example.labels if t != -100])
    assert list(example.seen.ids) == list(example.input_ids)
    batches = Batches([example] * 3, 3, pad_id=0, generator=Rng(0), gather=vlm.gather)
    micro = batches.at(0).micro[0]
    inputs = {k: v for k, v in micro.items() if k != "labels"}
    together = vlm.model(**inputs).logits[0]
    alone = vlm.logits(vlm.gather([example.seen]))[0]
    torch.testing.assert_close(together[: len(alone)], alone, atol=1e-4, rtol=1e-4)
    assert torch.isfinite(causal_loss(vlm.model, micro))
    with pytest.raises(BadInput, match="row 0: its images and what stands before"):
        examples(rows, vlm.processor, see=vlm.see, max_length=places[-1])
    with pytest.raises(BadInput, match="give `see`"):
        examples(rows, vlm.processor)
    with pytest.raises(BadInput, match="1 of 2 examples have images"):
        Batches([example, Example([1, 2], [-100, 2])], 2, pad_id=0, generator=Rng(0), gather=vlm.gather)


def picture():
    from PIL import Image

    return Image.new("RGB", (24, 24), (200, 30, 30))


@pytest.fixture(scope="module")
def vlm(tiny_tokenizer):
    from gnomon.core.models import ModelHandle, tiny_llava

    return ModelHandle(*tiny_llava(tiny_tokenizer, generator=Rng(0)))


def test_the_next_turn_stands_behind_the_answer_s_own_ids(chat, tiny_tokenizer):
    """Prompt, answer, end and next turn are, id by id, the conversation as the template writes it."""
    turns = [{"role": "user", "content": "Add two numbers."}]
    begun = prompt_ids(Task("t", messages=tuple(turns)), chat)
    answer = chat("return a + b", add_special_tokens=False)["input_ids"]
    end, question = next_turn("Again?", chat)
    whole = [*turns, {"role": "assistant", "content": "return a + b"}, {"role": "user", "content": "Again?"}]
    wanted = chat.apply_chat_template(whole, add_generation_prompt=True, tokenize=True, return_dict=True)[
        "input_ids"
    ]
    assert [*begun, *answer, *end, *question] == list(wanted)
    assert chat.convert_ids_to_tokens(end) == ["<|im_end|>"]
    # Without a template the end of a text ends an answer, and the plain form goes on.
    end, question = next_turn("Again?", tiny_tokenizer)
    assert end == [tiny_tokenizer.eos_token_id] and "Again?" in tiny_tokenizer.decode(question)


def test_a_template_that_rewrites_answers_has_no_next_turn(chat):
    shouting = copy.deepcopy(chat)
    shouting.chat_template = CHATML.replace("{{ m['content'] }}", "{{ m['content'].upper() }}")
    with pytest.raises(BadInput, match="does not write the answer"):
        next_turn("Again?", shouting)
