"""The simulated writer: it does as it is told, and its slips come at the planted rates."""

import math
from statistics import NormalDist, fmean

import pytest

from gnomon.core.llm import ask, complete, open_llm, tagged
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig
from gnomon.methods.calm.planted import Rewriter, sums, worked

N = 400
TEXT = worked(12, 6, Rng(0))


def rewrites(ref, task, n=N):
    asked = [ask(f"{task} Nr. {i}.\n\n<text>\n{TEXT}\n</text>") for i in range(n)]
    return [tagged(reply.text, "text") for reply in complete(open_llm(ref), asked)]


def within(found, rate, n=N):
    half = NormalDist().inv_cdf(1 - 0.5e-4) * math.sqrt(rate * (1 - rate) / n)
    return rate - half <= found <= rate + half


@pytest.mark.parametrize(
    ("task", "holds"),
    [
        ("Write it in a sad tone", "sorrow"),
        ("Write it in a tone of fear", "frightens"),
        ("Make it illogical", "no other reason"),
        ("Add a source of the kind url", "https://"),
        ("Add a source of the kind book", "(Source:"),
        ("Improve the text", "checked by itself"),
    ],
)
def test_it_does_as_it_is_told_and_keeps_the_meaning(task, holds):
    (text,) = rewrites("sim:rewriter", task, n=1)
    assert holds in text
    assert set(sums(text)) == set(sums(TEXT))


def test_length_as_wanted():
    for times in (1.5, 2, 3):
        (text,) = rewrites("sim:rewriter", f"Make it about {times} times as long", n=1)
        assert len(text.split()) / len(TEXT.split()) == pytest.approx(times, abs=0.4)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.4])
def test_slips_come_at_their_rates(rate):
    task = "Write it in a sad tone"
    breaks = [set(sums(t)) != set(sums(TEXT)) for t in rewrites(f"sim:rewriter?meaning_breaks={rate}", task)]
    misses = [t == TEXT for t in rewrites(f"sim:rewriter?misses={rate}", task)]
    extras = ["(Source:" in t for t in rewrites(f"sim:rewriter?extras={rate}", task)]
    drifts = [
        len(t.split()) > 1.4 * len(TEXT.split()) + 10 for t in rewrites(f"sim:rewriter?drift={rate}", task)
    ]
    for found in (breaks, misses, extras, drifts):
        assert within(fmean(found), rate)


def test_it_compares_two_texts_and_errs_at_a_rate():
    other = TEXT.replace("=", "=9", 1)
    pair = "{}\n<before>\n{}\n</before>\n<after>\n{}\n</after>"

    def says(ref, after, n):
        return [r.text for r in complete(open_llm(ref), [ask(pair.format(i, TEXT, after)) for i in range(n)])]

    assert set(says("sim:rewriter", f"Sadly:\n{TEXT}", 20)) == {"SAME"}
    assert set(says("sim:rewriter", other, 20)) == {"DIFFERENT"}
    assert within(says("sim:rewriter?check_errors=0.2", other, N).count("SAME") / N, 0.2)


def test_without_a_text_and_out_of_range():
    (reply,) = complete(open_llm("sim:rewriter"), [ask("Write it in a sad tone")])
    assert "no text" in reply.text
    with pytest.raises(BadConfig, match="drift must be between 0 and 1"):
        Rewriter(drift=2)
