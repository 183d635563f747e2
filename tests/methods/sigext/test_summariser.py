"""The simulated summariser: what it tells lies where its parameters say, reads nothing but the prompt, and has a null setting."""

from random import Random
from statistics import NormalDist

import pytest

from gnomon.core.llm import ask, complete, open_llm
from gnomon.errors import BadConfig
from gnomon.methods.sigext.council import draw_facts, read_summary, write_document

N, FACTS = 250, 9


def interval(rate, n):
    """Where a share of `n` draws at `rate` lies, but for one time in ten thousand."""
    half = NormalDist().inv_cdf(1 - 0.5e-4) * (rate * (1 - rate) / n) ** 0.5
    return rate - half, rate + half


def told(ref, hints=3, **options):
    """Shares of hinted and of other facts that the summaries tell, and the share of summaries with an invention."""
    noise = Random(7)
    worlds = [draw_facts(FACTS, noise) for _ in range(N)]
    chosen = [noise.sample(facts, hints) for facts in worlds]
    prompts = [
        f"{write_document(facts, noise)}\n\nSummarise.\nConsider: {'; '.join(f.thing for f in some)}."
        for facts, some in zip(worlds, chosen, strict=True)
    ]
    replies = complete(open_llm(ref), [ask(prompt, **options) for prompt in prompts])
    hinted = others = invented = 0
    for facts, some, reply in zip(worlds, chosen, replies, strict=True):
        said = read_summary(reply.text)
        hinted += sum(fact in said for fact in some)
        others += sum(fact in said for fact in facts if fact not in some)
        invented += any(fact not in facts for fact in said)
    return hinted / max(1, N * hints), others / (N * (FACTS - hints)), invented / N


@pytest.mark.parametrize(("uptake", "base", "invention"), [(0.8, 0.33, 0.0), (0.6, 0.1, 0.25)])
def test_rates_are_those_that_were_planted(uptake, base, invention):
    found = told(f"sim:summariser?uptake={uptake}&base={base}&invention={invention}")
    for value, rate, n in zip(found, (uptake, base, invention), (N * 3, N * 6, N), strict=True):
        low, high = interval(rate, n)
        assert low <= value <= high


def test_null_hints_change_nothing():
    hinted, others, _ = told("sim:summariser?uptake=0.33&base=0.33")
    low, high = interval(0.33, N * 3)
    assert low <= hinted <= high and abs(hinted - others) < 2 * (high - low)


def test_more_uptake_covers_more_hinted_facts_and_no_others():
    doses = [told(f"sim:summariser?uptake={u}") for u in (0.0, 0.33, 0.66, 1.0)]
    assert [d[0] for d in doses] == sorted(d[0] for d in doses)
    assert doses[0][0] == 0.0 and doses[-1][0] == 1.0
    low, high = interval(0.33, N * 6)
    assert all(low <= d[1] <= high for d in doses)


def test_draws_are_independent_and_repeat():
    noise = Random(1)
    prompt = write_document(draw_facts(FACTS, noise), noise)
    llm = open_llm("sim:summariser")
    asked = [ask(prompt, draw=draw) for draw in range(8)]
    first, again = ([r.text for r in complete(llm, asked)] for _ in range(2))
    assert first == again and len(set(first)) > 3


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (
            "Also the amber ferry 40 had open hand count then. Consider Amber Ferry.",
            "They approved the amber ferry 40.",
        ),
        ("Also the amber ferry 40 had open hand count then. Consider amber ferryman.", "Nothing of note."),
        ("Also the amber ferry 40 had open hand count then. Consider 40.", "Nothing of note."),
        ("Consider the amber ferry 40.", "There is nothing here to summarise."),
    ],
)
def test_it_reads_the_prompt_alone(prompt, expected):
    (reply,) = complete(open_llm("sim:summariser?uptake=1&base=0"), [ask(prompt)])
    assert reply.text == expected


def test_rates_out_of_range_are_named():
    with pytest.raises(BadConfig, match="uptake must be between 0 and 1"):
        open_llm("sim:summariser?uptake=2")
