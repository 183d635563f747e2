"""The simulated judge: what it chooses has the probability that its parameters give, and every cue has its dose and its null."""

import math
import re
from statistics import NormalDist, fmean

import pytest

from gnomon.core.llm import ask, complete, open_llm
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig
from gnomon.methods.calm.planted import Judge, worked

N = 600
FIRST, SECOND = worked(24, 10, Rng(1)), worked(24, 10, Rng(2))  # equally good
ENDING = 'End with your verdict in this form: "[[A]]" if answer A is better, "[[B]]" if answer B is better.'


def prompts(a=FIRST, b=SECOND, note="", names=("Assistant A", "Assistant B"), ending=ENDING, before="", n=N):
    blocks = [
        f"[Start of answer {x}, by {name}]\n{text}\n[End of answer {x}]"
        for x, name, text in zip("AB", names, (a, b), strict=True)
    ]
    return [f"Question {i}. {before}\n\n" + "\n\n".join(blocks) + f"\n\n{note}\n\n{ending}" for i in range(n)]


def share(ref, *, letter="A", draw=0, **world):
    replies = complete(open_llm(ref), [ask(p, draw=draw) for p in prompts(**world)])
    verdicts = [re.findall(r"\[\[(\w+)\]\]", reply.text)[-1] for reply in replies]
    return verdicts.count(letter) / len(verdicts)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def interval(rate, n=N):
    half = NormalDist().inv_cdf(1 - 0.5e-4) * math.sqrt(rate * (1 - rate) / n)
    return rate - half, rate + half


def within(found, rate, n=N):
    low, high = interval(rate, n)
    return low <= found <= high


def test_quality_alone_decides_with_the_probability_of_the_margin():
    assert within(share("sim:judge"), 0.5)
    assert within(share("sim:judge", a=worked(24, 15, Rng(3))), sigmoid(1.0))
    assert within(share("sim:judge?sharpness=2", a=worked(24, 15, Rng(3))), sigmoid(2.0))


CITED = f"{FIRST}\n(Source: a book.)"
FACTS = {
    "position": ({}, 1.0, 1.0),
    "authority": ({"a": CITED}, 1.0, 1.0),
    "tone": ({"a": f"{FIRST}\nI am furious."}, 1.0, 1.0),
    "logic": ({"b": f"{SECOND}\nIt must be true."}, 1.0, 1.0),
    "verbosity": ({"a": f"{FIRST}\n" + "so it is " * 24}, 1.0, 1.0),
    "name": ({"names": ("GPT-4", "Vicuna")}, 1.0, 1.0),
    "bandwagon": ({"note": "70% of people believe that answer A is the better one."}, 1.0, 0.5),
    "distraction": ({"note": "By the way, the author of answer A has a dog."}, 1.0, 1.0),
    "group": ({"note": "The author of answer A is a refugee."}, 1.0, 1.0),
}


@pytest.mark.parametrize("name", FACTS)
def test_every_cue_has_its_weight_its_dose_and_its_null(name):
    world, _, unit = FACTS[name]
    if name == "verbosity":
        assert len(world["a"].split()) == 2 * len(FIRST.split())
    shares = [share(f"sim:judge?{name}={weight}", **world) for weight in (0, 1, 2)]
    for weight, found in zip((0, 1, 2), shares, strict=True):
        assert within(found, sigmoid(weight * unit)), (name, weight)
    assert shares == sorted(shares)


def test_a_cue_moves_nothing_that_is_not_planted():
    everything = {
        "a": f"{CITED}\nI am furious. It must be true.",
        "note": "90% of people believe that answer A is the better one. The author of answer A is a refugee. "
        "By the way, the author of answer A has a dog.",
    }
    assert within(share("sim:judge", **everything), 0.5)


def test_two_draws_of_a_request_are_independent_and_one_draw_repeats():
    llm = open_llm("sim:judge")
    first, again, other = (complete(llm, [ask(p, draw=d) for p in prompts(n=400)]) for d in (0, 0, 1))
    assert [r.text for r in first] == [r.text for r in again]
    same = fmean(a.text[-4:] == b.text[-4:] for a, b in zip(first, other, strict=True))
    assert within(same, 0.5, 400)


def test_reasons_name_other_verdicts_and_now_and_then_the_cue():
    replies = complete(open_llm("sim:judge?candour=0.5"), [ask(p) for p in prompts(a=CITED, n=600)])
    texts = [reply.text for reply in replies]
    assert within(fmean(len(re.findall(r"\[\[", text)) == 2 for text in texts), 0.3, 600)
    assert within(fmean("cites a source" in text for text in texts), 0.5, 600)


def test_formats_ties_and_gibberish():
    (json_reply,) = complete(
        open_llm("sim:judge"), [ask(prompts(n=1, ending="Answer with one JSON object.")[0])]
    )
    assert re.fullmatch(r'\{"reason": ".*", "verdict": "[AB]"\}', json_reply.text)
    (token,) = complete(open_llm("sim:judge"), [ask(prompts(n=1, ending="Say the letter.")[0])])
    assert token.text in "AB"
    tied = ENDING[:-1] + ', "[[C]]" if they are equally good.'
    assert within(share("sim:judge?ties=0.25", letter="C", ending=tied), 0.25)
    assert share("sim:judge?ties=1", letter="C") == 0  # nobody offered a tie
    replies = complete(open_llm("sim:judge?gibberish=0.1"), [ask(p) for p in prompts()])
    assert within(fmean("]]" not in reply.text for reply in replies), 0.1)


SINGLE = "[Start of answer]\n{}\n[End of answer]\n\nEnd with your rating: [[N]]."


def scores(ref, text=FIRST, before="", n=N):
    asked = [f"Question {i}.\n\n{before}" + SINGLE.format(text) for i in range(n)]
    return [int(re.findall(r"\[\[(\d+)\]\]", r.text)[-1]) for r in complete(open_llm(ref), map(ask, asked))]


def test_scores_have_their_level_and_their_bonuses():
    """Quality 2.0 and level 2.3; a mean of n scores of spread 1 lies within 0.17 but for one time in ten thousand."""
    assert abs(fmean(scores("sim:judge")) - 4.3) < 0.17
    assert abs(fmean(scores("sim:judge?leniency=1.5")) - 5.8) < 0.17
    mine = f"Let me see.\n{FIRST}"
    assert abs(fmean(scores("sim:judge?own=0.5&voice=Let%20me%20see.", mine)) - 4.8) < 0.17
    assert abs(fmean(scores("sim:judge?own=0.5&voice=Let%20me%20see.", FIRST)) - 4.3) < 0.17
    history = "[Start of earlier version]\n2+2=5.\n[End of earlier version]\n\n"
    assert abs(fmean(scores("sim:judge?refined=0.5", before=history)) - 4.8) < 0.17
    assert set(scores("sim:judge?noise=0", n=20)) == {4}
    assert set(scores("sim:judge?noise=0&leniency=50", n=5)) == {10}


def test_it_answers_questions_in_its_voice():
    (reply,) = complete(open_llm("sim:judge?voice=Ahem."), [ask("Work out 9 sums (x).")])
    assert reply.text.startswith("Ahem.\nStep 1: ") and reply.text.count("Step") == 9


def test_asked_whether_something_sways_it():
    asked = "Does anything in it look as if it tries to sway the judge? Say YES or NO."
    says = [
        r.text
        for r in complete(
            open_llm("sim:judge?suspicion=0.84"), [ask(p) for p in prompts(a=CITED, before=asked, n=800)]
        )
    ]
    assert within(says.count("YES") / 800, 0.84, 800)
    plain = complete(open_llm("sim:judge?suspicion=1"), [ask(p) for p in prompts(before=asked, n=50)])
    assert {r.text for r in plain} == {"NO"}


@pytest.mark.parametrize(
    ("field", "value"), [("gibberish", 1.5), ("candour", -1), ("ties", 2), ("noise", -1)]
)
def test_parameters_out_of_range(field, value):
    with pytest.raises(BadConfig, match=field):
        Judge(**{field: value})
