import asyncio
import re
from dataclasses import replace

import pytest

from gnomon.core.llm.base import Reply, Usage
from gnomon.core.llm.config import LLMConfig
from gnomon.errors import BadConfig, EndpointDown
from gnomon.methods.sieve import JudgeClient, Snippet
from gnomon.methods.sieve.judging import JudgingStopped, judge_all
from gnomon.methods.sieve.judging.filters import Filter

CATS = Filter("cats", "texts about cats", "a cat", "no cat")


def snippets_of(*texts):
    return [Snippet(f"d{n}:0-{len(text)}", f"d{n}", text, 0, len(text)) for n, text in enumerate(texts)]


class Endpoint:
    """A judge behind the interface that every endpoint has: it sees requests only."""

    name = "endpoint"

    def __init__(self, answer):
        self.answer, self.seen = answer, []

    async def acomplete(self, request):
        text = re.search("<text>\n(.*?)\n</text>", request.messages[1].content, re.DOTALL)[1]
        self.seen.append((text, request.draw))
        await asyncio.sleep(0.001 * (hash(text) % 5))
        return self.answer(text, request.draw)


def said(word, tokens_in=100, tokens_out=10):
    return Reply(f"Thinking.\nVerdict: {word}", usage=Usage(tokens_in, tokens_out))


def by_cat(text, draw):
    return said("PASS" if "cat" in text else "FAIL")


def test_verdicts_come_in_order_with_their_cost():
    texts = [f"{'cat' if n % 3 == 0 else 'dog'} {n}" for n in range(40)]
    judge = JudgeClient(Endpoint(by_cat), CATS, LLMConfig(price_in=10, price_out=100, concurrency=16))
    verdicts = judge_all(judge, snippets_of(*texts))
    assert [v.label for v in verdicts] == [int(n % 3 == 0) for n in range(40)]
    first = verdicts[0]
    assert first.usd == pytest.approx(0.002)  # 100 tokens at 10 and 10 tokens at 100 USD a million
    assert (first.tokens_in, first.tokens_out, first.model, first.cached) == (100, 10, "endpoint", False)
    assert first.problem is None and "Verdict: PASS" in first.text
    assert not judge.is_simulated


def test_pitfall_7_a_failure_is_asked_twice_more_and_never_counted_as_fail():
    def answer(text, draw):
        kinds = {
            "refuses": Reply("I will not.", "refusal", Usage(5, 5)),
            "cut": Reply("It might pass", "length", Usage(5, 5)),
            "bad": Reply("", "error", error="HTTP 400: flagged", fault="rejected"),
            "late": Reply("Hm, pass or fail?\nWho knows.", usage=Usage(5, 5))
            if draw < 2
            else said("PASS", 7, 7),
        }
        return kinds.get(text) or by_cat(text, draw)

    endpoint = Endpoint(answer)
    judge = JudgeClient(endpoint, CATS, LLMConfig(price_in=1, price_out=1))
    refuses, late, cut, bad, good = judge_all(judge, snippets_of("refuses", "late", "cut", "bad", "a cat"))
    assert [v.label for v in (refuses, late, cut, bad, good)] == [None, 1, None, None, 1]
    assert "refused" in refuses.problem and "cut off" in cut.problem and "flagged" in bad.problem
    assert [draw for text, draw in endpoint.seen if text == "refuses"] == [0, 1, 2]
    assert [draw for text, draw in endpoint.seen if text == "a cat"] == [0]
    assert late.problem is None and (late.tokens_in, late.tokens_out) == (17, 17)  # all three were paid for
    assert late.usd == pytest.approx(34e-6) and bad.usd == 0
    assert "I will not." in refuses.problem


def test_pitfall_7_the_spend_cap_stops_cleanly_and_keeps_every_verdict():
    endpoint = Endpoint(by_cat)
    judge = JudgeClient(endpoint, CATS, LLMConfig(budget_calls=5, concurrency=1))
    with pytest.raises(JudgingStopped, match="budget") as stop:
        judge_all(judge, snippets_of(*(f"cat {n}" for n in range(9))))
    assert [v and v.label for v in stop.value.verdicts] == [1] * 5 + [None] * 4
    assert len(endpoint.seen) == 5


def test_pitfall_7_a_cap_in_money_is_not_exceeded():
    endpoint = Endpoint(by_cat)
    # a call sets aside its longest answer, some 1,024 tokens at 100 USD a million: two fit into 0.25 USD, each costs less
    config = LLMConfig(budget_usd=0.25, price_in=1, price_out=100, concurrency=4)
    judge = JudgeClient(endpoint, CATS, config)
    with pytest.raises(JudgingStopped) as stop:
        judge_all(judge, snippets_of(*(f"cat {n}" for n in range(500))))
    paid = [v for v in stop.value.verdicts if v is not None]
    assert len(paid) == len(endpoint.seen) > 5
    assert sum(v.usd for v in paid) <= 0.25


def test_what_is_known_is_not_asked_again(tmp_path):
    snippets = snippets_of("a cat", "a dog", "odd")
    answer = lambda text, draw: Reply("Hm.") if text == "odd" else by_cat(text, draw)  # noqa: E731
    first, second = Endpoint(answer), Endpoint(answer)
    before = judge_all(JudgeClient(first, CATS, folder=tmp_path), snippets)
    after = judge_all(JudgeClient(second, CATS, folder=tmp_path), snippets)
    assert len(first.seen) == 5
    assert second.seen == [("odd", 0), ("odd", 1), ("odd", 2)]  # what held no verdict may hold one now
    assert [v.label for v in before] == [v.label for v in after] == [1, 0, None]
    assert [v.cached for v in before] == [False] * 3 and [v.cached for v in after] == [True, True, False]
    changed = Endpoint(answer)
    other = Filter("cats", "texts about cats", "a cat", "no cat at all")
    judge_all(JudgeClient(changed, other, folder=tmp_path), snippets[:2])
    assert len(changed.seen) == 2  # another filter is another question


def test_a_judge_that_answers_nothing_is_told_instead_of_counted():
    dead = Endpoint(lambda text, draw: Reply("", "error", error="HTTP 401: no such key", fault="rejected"))
    with pytest.raises(EndpointDown, match=r"endpoint does not answer\. HTTP 401: no such key"):
        judge_all(JudgeClient(dead, CATS), snippets_of("a", "b", "c"))
    assert len(dead.seen) == 3


def test_another_opinion_is_another_draw():
    endpoint = Endpoint(lambda text, draw: said("PASS" if draw >= 3 else "FAIL"))
    first = judge_all(JudgeClient(endpoint, CATS, temperature=1.0), snippets_of("a"))
    second = judge_all(JudgeClient(endpoint, CATS, temperature=1.0, draw=1), snippets_of("a"))
    assert (first[0].label, second[0].label) == (0, 1)


def test_nothing_to_judge_and_bad_references():
    assert judge_all(JudgeClient(Endpoint(by_cat), CATS), []) == []
    with pytest.raises(BadConfig, match=r'"oopenai:x".*Did you mean "openai"'):
        JudgeClient("oopenai:x", CATS)


def test_pitfall_7_a_simulator_s_planted_errors_and_faults_are_found_again():
    """10% each of refusals, garbled and truncated answers: 27.1% of asks fail, so 2.0% of the snippets after three."""
    ref = "sim:verdict?words=cat&false_negatives=0.2&refused=0.1&garbled=0.1&truncated=0.1"
    judge = JudgeClient(ref, CATS, LLMConfig(concurrency=64))
    verdicts = judge_all(
        judge, snippets_of(*(f"a {'cat' if n % 2 else 'dog'} number {n}" for n in range(600)))
    )
    assert judge.is_simulated
    failed = [v for v in verdicts if v.label is None]
    assert 2 <= len(failed) <= 27  # 12 expected, five standard deviations are 17
    assert all(v.problem for v in failed) and not any(v.problem for v in verdicts if v.label is not None)
    cats = [v.label for v in verdicts[1::2] if v.label is not None]
    dogs = [v.label for v in verdicts[::2] if v.label is not None]
    assert sum(dogs) == 0
    assert sum(cats) / len(cats) == pytest.approx(0.8, abs=0.12)  # five standard deviations


class Reader(Endpoint):
    """A model in this process: greedy, and held to choices where they are given."""

    chooses = True

    async def acomplete(self, request):
        self.seen.append(request)
        if not request.choices:
            return Reply("The text is about the text. The text is about", "length", Usage(5, 5))
        assert request.choices == ("PASS", "FAIL") and "one word, PASS or FAIL" in request.messages[1].content
        return Reply("PASS" if "cat" in request.messages[1].content.split("</text>")[0] else "FAIL")


def test_a_model_in_this_process_is_asked_for_the_verdict_alone_rather_than_the_same_again():
    reader = Reader(None)
    verdicts = judge_all(JudgeClient(reader, CATS), snippets_of("a cat", "a dog"))
    assert [v.label for v in verdicts] == [1, 0] and not any(v.problem for v in verdicts)
    assert [bool(request.choices) for request in reader.seen] == [False, False, True, True]
    # A filter that wants the verdict alone gets it at the first request.
    direct = Reader(None)
    judge_all(JudgeClient(direct, replace(CATS, style="direct")), snippets_of("a cat", "a dog"))
    assert [request.draw for request in direct.seen] == [0, 0]
