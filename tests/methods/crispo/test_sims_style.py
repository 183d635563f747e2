"""The simulated writer, critic and optimiser: planted truths come back inside intervals, nulls do nothing, doses grow."""

import math
import random
from statistics import NormalDist

import pytest

from fixtures_crispo import expected_score
from gnomon.core.llm import ask, complete, open_llm, tagged
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig
from gnomon.methods.crispo.house import (
    ASPECTS,
    INVENTIONS,
    LENGTH,
    ORDER,
    draw_documents,
    read_forbidden,
    read_requests,
    read_summary,
    style_score,
    with_request,
)

PROMPT = "Summarise the notes.\n<notes>\n{}\n</notes>\nWrite it inside <summary> and </summary>."
TARGET, OWN = (1, 2, 3, 1, 2, 1, 3, 1), (0, 1, 0, 2, 0, 3, 0, 2)
DEFAULT = "".join(map(str, OWN))


def documents(n=400, style=TARGET, **more):
    return draw_documents(n, style, Rng(5), **more)


def written(ref, prompt, docs, **options):
    replies = complete(open_llm(ref), [ask(prompt.format(doc.notes), **options) for doc in docs])
    return [tagged(reply.text, "summary") for reply in replies]


def asked_for(requests):
    text = PROMPT
    for aspect, level in requests.items():
        text = with_request(text, aspect, level)
    return text


def interval(rate, n):
    """Where a share of `n` draws at `rate` lies, but for one time in ten thousand."""
    half = NormalDist().inv_cdf(1 - 0.5e-4) * math.sqrt(rate * (1 - rate) / n)
    return rate - half, rate + half


# The writer


@pytest.mark.parametrize(
    "requests",
    [{}, {1: 2, 4: 2}, dict(enumerate(TARGET)), {0: 3, 5: 1}, dict.fromkeys(range(8), 0)],
)
def test_the_score_of_a_prompt_is_what_the_planted_numbers_say(requests):
    docs = documents()
    texts = written(f"sim:styler?default={DEFAULT}&follow=0.8", asked_for(requests), docs)
    scores = [style_score(text, doc.reference) for text, doc in zip(texts, docs, strict=True)]
    truth = sum(expected_score(requests, OWN, TARGET, 0.8, doc) for doc in docs) / len(docs)
    mean = sum(scores) / len(scores)
    error = math.sqrt(sum((s - mean) ** 2 for s in scores) / len(scores) / len(scores))
    assert abs(mean - truth) <= 3.9 * error + 1e-9


@pytest.mark.parametrize("follow", [0.0, 0.3, 0.9, 1.0])
def test_requests_are_followed_at_the_planted_rate(follow):
    docs, requests = documents(), {1: 2, 2: 3, 4: 2, 7: 1}
    texts = written(f"sim:styler?default={DEFAULT}&follow={follow}", asked_for(requests), docs)
    levels = [read_summary(text).levels for text in texts]
    hits = sum(one[aspect] == level for one in levels for aspect, level in requests.items())
    low, high = interval(follow, 4 * len(docs))
    assert low <= hits / (4 * len(docs)) <= high
    silent = [aspect for aspect in range(8) if aspect not in requests and aspect != ORDER]
    assert all(one[aspect] == OWN[aspect] for one in levels for aspect in silent)


def test_hints_are_taken_up_at_the_planted_rate_and_only_hints_help():
    docs = documents(300, style=(0,) * 8, salient=True)
    salient = [{f.thing for f, mark in zip(d.facts, d.salient, strict=True) if mark} for d in docs]

    def found(hints, uptake):
        """Share of the salient facts that are told when a line names what `hints` says of each document."""
        prompts = [
            f"{PROMPT.format(d.notes)}\nKey phrases: {'; '.join(h)}" for d, h in zip(docs, hints, strict=True)
        ]
        replies = complete(open_llm(f"sim:styler?uptake={uptake}"), map(ask, prompts))
        told = [set(read_summary(tagged(reply.text, "summary")).things) for reply in replies]
        return sum(len(one & wanted) for one, wanted in zip(told, salient, strict=True)) / 900

    plain = found([()] * 300, 0.9)
    hinted = [found(map(sorted, salient), uptake) for uptake in (0, 0.5, 1)]
    assert hinted[0] == pytest.approx(plain)
    assert hinted[0] < hinted[1] < hinted[2] == 1
    # A hinted fact is told when it is taken up, or else when it is among the earliest of what room is left.
    assert hinted[1] >= 0.5


@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_inventions_come_at_their_rate_and_stop_when_forbidden(rate):
    docs = documents()
    ref = f"sim:styler?default={DEFAULT}&invention={rate}&follow=0.75"
    low, high = interval(rate, 4 * len(docs))
    free = written(ref, PROMPT, docs)
    count = sum(words in text for text in free for words, _ in INVENTIONS.values())
    assert low <= count / (4 * len(docs)) <= high
    every = " ".join(sentence for _, sentence in INVENTIONS.values())
    bound = written(ref, PROMPT + "\n\n" + every, docs)
    count = sum(words in text for text in bound for words, _ in INVENTIONS.values())
    low, high = interval(rate * 0.25, 4 * len(docs))
    assert low <= count / (4 * len(docs)) <= high


def test_noise_belongs_to_the_request_and_its_draw():
    docs, prompt = documents(200), asked_for({1: 2})
    ref = f"sim:styler?default={DEFAULT}&follow=0.5"
    one, again, other = (written(ref, prompt, docs, draw=draw) for draw in (0, 0, 1))
    assert one == again
    low, high = interval(0.5, 200)
    assert low <= sum(a == b for a, b in zip(one, other, strict=True)) / 200 <= high


def test_the_writer_says_when_there_is_nothing_and_tags_only_when_asked():
    llm = open_llm("sim:styler")
    none, bare = complete(llm, [ask("Summarise: nothing."), ask(documents(1)[0].notes)])
    assert none.text == "There are no notes to summarise."
    assert "<summary>" not in bare.text


# The critic


def critic_prompt(instruction, triples, with_references=True):
    blocks = []
    for source, prediction, reference in triples:
        more = f"\n<reference>\n{reference}\n</reference>" if with_references else ""
        blocks.append(
            f"<example>\n<input>\n{source}\n</input>\n<prediction>\n{prediction}\n</prediction>{more}\n</example>"
        )
    return f"<instruction>\n{instruction}\n</instruction>\n\n" + "\n\n".join(blocks)


def critiques(ref, draws=100, predictions=None, **more):
    docs = documents(10)
    predictions = predictions or written(f"sim:styler?default={DEFAULT}", PROMPT, docs)
    triples = [(d.notes, text, d.reference) for d, text in zip(docs, predictions, strict=True)]
    text = critic_prompt("Summarise.", triples, **more)
    return [
        tagged(r.text, "critique") for r in complete(open_llm(ref), [ask(text, draw=i) for i in range(draws)])
    ]


DIFFER = [aspect for aspect in range(8) if OWN[aspect] != TARGET[aspect]]


@pytest.mark.parametrize("det", [0.0, 0.3, 0.7, 1.0])
def test_true_differences_are_reported_at_the_planted_rate(det):
    found = [read_requests(text) for text in critiques(f"sim:critic?det={det}&wrong=0")]
    assert all(level == TARGET[aspect] for one in found for aspect, level in one.items())
    low, high = interval(det, len(DIFFER) * 100)
    assert low <= sum(map(len, found)) / (len(DIFFER) * 100) <= high


def test_wrong_advice_comes_at_its_rate_and_is_of_any_level():
    found = [read_requests(text) for text in critiques("sim:critic?det=0&wrong=0.25", 250)]
    low, high = interval(0.25, 2000)
    assert low <= sum(map(len, found)) / 2000 <= high
    right = sum(level == TARGET[aspect] for one in found for aspect, level in one.items())
    total = sum(map(len, found))
    low, high = interval(0.25, total)
    assert low <= right / total <= high


def test_a_critic_of_one_aspect_and_one_who_has_nothing_to_say():
    assert {len(read_requests(t)) for t in critiques("sim:critic?det=1&wrong=0&most=1", 50)} == {1}
    perfect = [doc.reference for doc in documents(10)]
    said = critiques("sim:critic?det=1&wrong=0", 5, predictions=perfect)
    assert set(said) == {"The predictions are as they should be."}
    assert "no examples" in complete(open_llm("sim:critic"), [ask("Hello")])[0].text


def test_the_order_is_read_off_the_inputs():
    """Predictions right but for the order: nothing else is reported, and the order that all references agree with is."""
    docs = documents(10)
    wrong = draw_documents(10, (*TARGET[:ORDER], 0, *TARGET[6:]), Rng(5))
    assert [d.facts for d in wrong] == [d.facts for d in docs]
    (text,) = critiques("sim:critic?det=1&wrong=0", 1, predictions=[d.reference for d in wrong])
    assert read_requests(text) == {ORDER: TARGET[ORDER]}


def test_without_references_the_critic_compares_with_the_input():
    docs = documents(10)
    invented = written(f"sim:styler?default={DEFAULT}&invention=1", PROMPT, docs)
    (text,) = critiques("sim:critic?det=1&wrong=0", 1, predictions=invented, with_references=False)
    assert all(sentence in text for _, sentence in INVENTIONS.values())
    assert read_requests(text) == {}
    plain = written(f"sim:styler?default={DEFAULT}", PROMPT, docs)
    (text,) = critiques("sim:critic?det=1&wrong=0", 1, predictions=plain, with_references=False)
    assert text == "The predictions are as they should be."


# The optimiser


def optimizer_prompt(shown):
    blocks = []
    for text, score, critique in shown:
        more = f"\n<critique>\n{critique}\n</critique>" if critique else ""
        blocks.append(f"<prompt>\n{text}\n</prompt>\nScore: {score}{more}")
    return "Improve.\n\n" + "\n\n".join(blocks)


CRITIQUE = "Layout: no. Suggestion: Use bullet points.\nTense: no. Suggestion: Use the past tense."


def proposals(ref, shown, draws=400):
    text = optimizer_prompt(shown)
    return [
        tagged(r.text, "instruction")
        for r in complete(open_llm(ref), [ask(text, draw=i, temperature=1.0) for i in range(draws)])
    ]


@pytest.mark.parametrize("apply", [0.0, 0.5, 0.8, 1.0])
def test_suggestions_are_applied_at_the_planted_rate(apply):
    found = proposals(f"sim:optimizer?apply={apply}", [("Summarise.\nINSERT_INPUT_HERE", "40.00", CRITIQUE)])
    both = sum(read_requests(text) == {1: 1, 4: 0} for text in found)
    low, high = interval(apply**2, 400)
    assert low <= both / 400 <= high
    assert all(text.endswith("\nINSERT_INPUT_HERE") for text in found)


def test_without_suggestions_it_changes_one_aspect_to_any_level():
    found = [read_requests(t) for t in proposals("sim:optimizer", [("Summarise.", "40", None)], 640)]
    assert {len(one) for one in found} == {1}
    counts = [sum(one == {i // 4: i % 4} for one in found) for i in range(32)]
    assert min(counts) > 0  # 20 of each are expected
    assert max(counts) < 60


def test_it_starts_from_the_best_prompt_most_often():
    shown = [(f"Prompt {i}.", str(i), None) for i in range(3)]
    found = proposals("sim:optimizer?best=0.6", shown)
    share = [sum(f"Prompt {i}." in text for text in found) / 400 for i in range(3)]
    for i, rate in enumerate((0.16, 0.24, 0.6)):
        low, high = interval(rate, 400)
        assert low <= share[i] <= high


@pytest.mark.parametrize("unruly", [0.0, 0.2, 1.0])
def test_ideas_for_a_postscript_work_against_the_main_prompt_at_the_planted_rate(unruly):
    text = "<main>\nSummarise.\n</main>\n" + optimizer_prompt([("Stay faithful.", "40", None)])
    replies = complete(open_llm(f"sim:optimizer?unruly={unruly}"), [ask(text, draw=i) for i in range(400)])
    found = [tagged(reply.text, "instruction") for reply in replies]
    low, high = interval(unruly, 400)
    assert low <= sum(bool(read_requests(one)) for one in found) / 400 <= high
    assert sum(len(read_forbidden(one)) for one in found) == sum(not read_requests(one) for one in found)


def test_an_idea_for_a_postscript_may_take_a_sentence_back():
    every = "Stay true. " + " ".join(sentence for _, sentence in INVENTIONS.values())
    text = "<main>\nSummarise.\n</main>\n" + optimizer_prompt([(every, "40", None)])
    replies = complete(open_llm("sim:optimizer?unruly=0"), [ask(text, draw=i) for i in range(50)])
    for reply in replies:
        found = tagged(reply.text, "instruction")
        assert found.startswith("Stay true. ")
        assert len(read_forbidden(found)) == 3


def test_faults_of_format_come_at_their_rates():
    shown = [("Summarise.\nINSERT_INPUT_HERE", "40", CRITIQUE)]
    low, high = interval(0.3, 400)
    assert low <= proposals("sim:optimizer?unformatted=0.3", shown).count(None) / 400 <= high
    slotless = [text for text in proposals("sim:optimizer?slotless=0.3", shown) if "INSERT" not in text]
    assert low <= len(slotless) / 400 <= high
    copied = [t for t in proposals("sim:optimizer?copied=0.3", shown) if t == shown[0][0]]
    assert low <= len(copied) / 400 <= high
    assert "no prompts" in complete(open_llm("sim:optimizer"), [ask("Hello")])[0].text


@pytest.mark.parametrize(
    ("ref", "says"),
    [
        ("sim:styler?default=01", "default must be 8 digits"),
        ("sim:styler?follow=2", "follow must be between 0 and 1"),
        ("sim:critic?det=-1", "det must be between 0 and 1"),
        ("sim:critic?most=0", "most must be >= 1"),
        ("sim:optimizer?apply=7", "apply must be between 0 and 1"),
        ("sim:optimiser", 'Did you mean "optimizer"?'),
    ],
)
def test_misspelt_parameters(ref, says):
    with pytest.raises(BadConfig) as told:
        open_llm(ref)
    assert says in str(told.value)


def test_the_lengths_of_summaries_go_from_three_to_six():
    rng = random.Random(0)
    for level in range(4):
        style = (level, *(rng.randrange(4) for _ in range(7)))
        (doc,) = draw_documents(1, style, Rng(level))
        assert len(read_summary(doc.reference).things) == 3 + level
        assert str(ASPECTS[LENGTH].requests[level])
