"""The loop: what is returned, what is never shown to whom, what happens when nothing good comes, and what it costs."""

import logging
import math
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest

from fixtures_crispo import (
    COUNT_PROMPT,
    STYLE,
    as_number,
    counted,
    counting_llms,
    expected_score,
    house,
    number_in,
    numbered,
    searched,
    simulated,
    two_scores,
)
from gnomon.core.llm import Reply, ask, open_llm
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput, LLMFailure
from gnomon.methods.crispo import (
    Decoding,
    Example,
    LLMs,
    Metric,
    SearchConfig,
    Task,
    compare,
    evaluate,
    metric_of,
    open_metrics,
    optimize,
    tune_suffix,
)
from gnomon.methods.crispo.house import draw_documents, parse_style, read_requests
from gnomon.methods.crispo.scoring import Measured
from gnomon.methods.crispo.scoring.calls import SAMPLED
from gnomon.methods.crispo.scoring.evaluation import score_table


@pytest.mark.parametrize("select", ["rank", "zsum", "pareto"])
def test_the_golden_case_the_last_of_four_steps_of_two_wins(select):
    """The task answers with the candidate's number, all metrics grow with it: the winner is 8, under every way of weighing."""
    result = counted(metrics=two_scores(), select=select)
    assert [one.number for one in result.history.candidates] == list(range(9))
    assert result.best.number == 8
    assert "number 8" in result.best.text
    assert counted(select=select).best.number == 8  # a single metric too


def postscripts(reply=None, log=None):
    def say(number):
        return f"<instruction>Postscript number {number}</instruction>"

    return counting_llms(log, reply=reply or say)


@pytest.mark.parametrize("recheck", [0, 3])
def test_the_golden_case_for_a_postscript(recheck):
    """The published code returns its first postscript always."""
    main = f"{COUNT_PROMPT}\n"
    cfg = SearchConfig(steps=4, per_step=2, few_shot=1, recheck=recheck)
    result = tune_suffix(main, numbered(6), numbered(6, "d"), postscripts(), two_scores(), cfg)
    assert result.best.text == "Postscript number 8"
    assert result.history.candidates[0].text == ""
    assert result.front == [result.best]


def test_no_postscript_can_win_and_the_main_prompt_stays_as_it_is():
    """All metrics fall with the number: the empty postscript, the first candidate, is returned."""
    log = []
    main = "Say it:  INSERT_INPUT_HERE \n in <summary> tags\n\n"
    falling = [metric_of(lambda p, r, s: 1 - int(p or 0) / 50, name) for name in ("one", "two")]
    cfg = SearchConfig(steps=2, per_step=2, few_shot=1)
    result = tune_suffix(main, numbered(4), numbered(4, "d"), postscripts(log=log), falling, cfg)
    assert (result.best.number, result.best.text) == (0, "")
    asked = [text for role, text, _ in log if role == "task"]
    filled = main.replace("INSERT_INPUT_HERE", "this is the input 0 of the rows r")
    assert filled in asked
    assert f"{filled}\n\nPostscript number 1" in asked


def test_a_slot_that_is_filled_for_you_may_stand_in_one_of_the_first_prompts_alone():
    hinted = f"{COUNT_PROMPT} INSERT_KEYPHRASES_HERE"

    def phrased(name):
        phrases = [{"text": "alpha", "rank": 1}, {"text": "beta", "rank": 2}]
        return [replace(row, meta={"phrases": phrases}) for row in numbered(4, name)]

    def say(number):
        return f"<instruction>Say the number {number}: INSERT_INPUT_HERE INSERT_KEYPHRASES_HERE <summary></instruction>"

    log = []
    cfg = SearchConfig(steps=1, per_step=2, few_shot=1)
    llms = counting_llms(log, reply=say)
    result = optimize(Task([COUNT_PROMPT, hinted]), phrased("r"), phrased("d"), llms, [as_number()], cfg)
    assert [one.k is None for one in result.history.candidates] == [True, False, False, False]
    assert not result.history.steps[1].rejected
    assert any("number 1: this is the input 0 of the rows r alpha; beta" in text for _, text, _ in log)
    with pytest.raises(BadInput, match="has no key phrases"):
        optimize(Task([COUNT_PROMPT, hinted]), numbered(4), phrased("d"), llms, [as_number()], cfg)
    with pytest.raises(BadInput, match="slot that the first one has not"):
        other = Task([COUNT_PROMPT, "INSERT_INPUT_HERE INSERT_CONTEXT_HERE"])
        rows = [[replace(row, meta={"context": "c"}) for row in numbered(4, name)] for name in "rd"]
        optimize(other, *rows, llms, [as_number()], cfg)


def test_a_postscript_with_slots_is_refused_and_filled_by_nobody():
    def say(number):
        return f"<instruction>Number {number} INSERT_INPUT_HERE</instruction>"

    cfg = SearchConfig(steps=1, per_step=2)
    result = tune_suffix(COUNT_PROMPT, numbered(4), numbered(4, "d"), postscripts(say), two_scores(), cfg)
    assert result.history.steps[1].rejected == {
        "slot in a postscript": 8
    }  # rounds of two until five are refused, and one more


def test_the_critique_reaches_the_optimizer():
    log = []
    counted(counting_llms(log))
    asked = [text for role, text, _ in log if role == "optimizer"]
    assert all("<critique>\nCount on.\n</critique>" in text for text in asked)
    assert len([1 for role, *_ in log if role == "critic"]) == 9
    log.clear()
    counted(counting_llms(log), arm="opro")
    assert not [1 for role, *_ in log if role == "critic"]
    assert all("Count on." not in text for role, text, _ in log if role == "optimizer")


def test_arms_take_the_same_number_of_task_calls():
    counts = {arm: searched(arm=arm).history.steps[-1].task_calls for arm in ("crispo", "opro")}
    logs = {arm: [] for arm in counts}
    for arm, log in logs.items():
        counted(counting_llms(log), arm=arm)
    tasks = {arm: sum(role == "task" for role, *_ in log) for arm, log in logs.items()}
    assert tasks["crispo"] == tasks["opro"]
    plain = counted(arm="plain")
    assert len(plain.history.candidates) == 1
    assert (plain.best.number, len(plain.calls)) == (0, 12)


def test_dev_is_never_shown_to_critic_or_optimizer():
    log = []
    counted(counting_llms(log), dev_every=1)
    meta = [text for role, text, _ in log if role != "task"]
    assert meta
    assert not any("of the rows d" in text for text in meta)
    assert any("of the rows r" in text for text in meta)
    assert any("of the rows d" in text for role, text, _ in log if role == "task")


def test_dev_is_measured_every_so_many_steps_and_at_the_end():
    result = counted(steps=7, per_step=1, dev_every=3, recheck=0)
    there = [one.number for one in result.history.on("dev")]
    assert there == [0, 3, 6, 7]  # the given one, steps 3 and 6, the last; each best on train anyway
    assert counted(steps=7, per_step=1, recheck=0).history.on("dev")[1].number == 5
    exact = [metric_of(_right, "em")]
    assert len(counted(metrics=exact, steps=3, per_step=1, recheck=0).history.on("dev")) == 4


def _right(prediction, reference, source):
    return float(prediction == reference)


_right.is_exact = True


def test_the_floor_spares_dev():
    result = counted(dev_every=1, dev_floor=0.035, recheck=0)
    assert [one.number for one in result.history.on("dev")] == [0, 4, 5, 6, 7, 8]


def test_the_winner_of_dev_is_returned_and_not_that_of_train():
    """On train the score grows with the number, on dev it falls."""

    def turned(prediction, reference, source):
        value = int(prediction or 0) / 50
        return value if "rows r" in source else 1 - value

    result = counted(metrics=[metric_of(turned, "turned")], dev_every=1)
    assert result.history.best("train").number == 8
    assert result.best.number == 0


def test_lower_is_better_is_respected_everywhere():
    def distance(prediction, reference, source):
        return abs(int(prediction or 0) - 5) / 10

    distance.higher_is_better = False
    result = counted(metrics=[metric_of(distance, "distance")], dev_every=1)
    assert result.best.number == 5
    assert result.history.ranked("train")[-1].number == 5


# Trouble


def test_a_weak_optimizer_neither_stops_nor_crashes_the_search(caplog):
    """Nothing but refused proposals: 5 a step and one more round, and on it goes."""
    result = counted(counting_llms(reply=lambda number: "no tag at all"))
    assert len(result.history.candidates) == 1
    assert result.best.number == 0
    for step in result.history.steps[1:]:
        # Rounds of two until five are refused, and one round more.
        assert (step.rejected, step.proposals, step.new) == ({"no tag": 8}, 8, [])
    assert "no proposal could be used (8 no tag)" in caplog.text


def test_refused_proposals_are_asked_anew_with_other_examples():
    log = []

    def every_second(number):
        if number % 2:
            return "<instruction>open"
        return f"<instruction>The number {number}: INSERT_INPUT_HERE <summary></instruction>"

    result = counted(counting_llms(log, reply=every_second), steps=2)
    assert [len(step.new) for step in result.history.steps[1:]] == [2, 2]
    assert result.history.steps[1].rejected["unclosed tag"] >= 1
    draws = [request.draw for role, _, request in log if role == "optimizer"]
    assert sorted(draws) == list(range(len(draws)))  # no attempt repeats another one


def test_temperatures_are_sent_as_asked_for_and_else_not_at_all():
    def temperatures(decoding=None):
        log = []
        llms = counting_llms(log)
        counted(replace(llms, decoding=decoding) if decoding else llms, steps=1)
        return {role: {request.temperature for one, _, request in log if one == role} for role, *_ in log}

    of_each = Decoding(task_temperature=0.0, critic_temperature=0.7, optimizer_temperature=1.2)
    assert temperatures(of_each) == {"task": {0.0}, "critic": {0.7}, "optimizer": {1.2}}
    none = ask("").temperature
    assert temperatures() == {"task": {none}, "critic": {none}, "optimizer": {none}}


@pytest.mark.parametrize("role", ["task", "critic", "optimizer"])
def test_a_model_in_this_process_samples_critiques_and_proposals(role):
    """It has no temperature of its own: at 0 every proposal would be the same."""
    log = []
    llms = counting_llms(log)
    getattr(llms, role).tokenizer = lambda text: {"input_ids": text.split()}  # what tells it from an endpoint
    getattr(llms, role).model = SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: None))
    counted(llms, steps=1, context_tokens=10_000)
    sent = {request.temperature for one, _, request in log if one == role}
    assert sent == ({ask("").temperature} if role == "task" else {SAMPLED})


def test_a_refusal_is_told_from_a_wrong_format():
    llms = simulated()
    llms = LLMs(llms.task, llms.critic, open_llm("sim:optimizer?refused=1"))
    steps = searched(llms, steps=1).history.steps
    assert steps[1].rejected == {"refused by the model": 9}


def test_faults_of_simulators_are_counted_and_mended():
    llms = simulated()
    ref = "sim:optimizer?unformatted=0.3&slotless=0.5&copied=0.2"
    result = searched(LLMs(llms.task, llms.critic, open_llm(ref)), steps=6)
    reasons = set().union(*(step.rejected for step in result.history.steps))
    assert {"unclosed tag", "tried before"} <= reasons
    mended = [one for one in result.history.candidates if "slot input prepended" in one.repairs]
    assert mended
    assert all(one.text.startswith("INSERT_INPUT_HERE\n") for one in mended)


def failing(which, reply, log=None):
    """The counting task model, which fails for inputs and prompts that `which` names."""
    llms = counting_llms(log)

    async def task(request):
        text = request.messages[-1].content
        return reply if which(text) else await llms.task.acomplete(request)

    return replace(llms, task=SimpleNamespace(name="flaky", acomplete=task))


REFUSED = Reply("I cannot help with that, 99.", "refusal")
TIMED_OUT = Reply("", "error", error="no answer within 120 s", fault="timeout")
GONE = Reply("", "error", error="no connection", fault="connection")


@pytest.mark.parametrize("reply", [REFUSED, TIMED_OUT])
def test_a_failed_reply_is_no_prediction(reply):
    """One row of ten is not answered: scores are those of the other nine, whatever stands in the reply."""
    log = []
    result = counted(failing(lambda text: "input 3" in text, reply, log), rows=10)
    reason = "refusal" if reply is REFUSED else "timeout"
    for candidate in result.history.candidates:
        measured = candidate.measured["train"]
        assert measured.predictions[3] is None and measured.unanswered == {3: reason}
        assert candidate.values["train"]["number"] == pytest.approx(number_in(candidate.text) / 100)
        assert candidate.row()["unanswered"]["train"] == {reason: 1}
    assert result.best.number == 8
    critiques = [text for role, text, _ in log if role == "critic"]
    assert critiques and not any("input 3" in text or "I cannot" in text for text in critiques)
    endings = Counter(call.finish for call in result.calls if call.role == "task")
    assert (
        endings[reason] == 9 + 3 + 3
    )  # prompts on train, those on dev, and the best three of them there once more


def test_rows_without_names_are_told_apart():
    llms = failing(lambda text: "input 3" in text or "input 4" in text, REFUSED)
    rows = [replace(row, id="") for row in numbered(10)]
    (measured,) = evaluate([COUNT_PROMPT], rows, llms, [as_number()])
    assert measured.unanswered == {3: "refusal", 4: "refusal"} and not measured.lacks_answers
    assert measured.reasons == {"refusal": 2} and len(measured.of("number")) == 8


def test_racing_tells_what_is_refused_from_what_is_bad():
    result = counted(
        failing(lambda text: "number 8" in text, REFUSED), rows=30, racing=True, top_k=2, recheck=0
    )
    last = result.history.candidates[8]
    assert (
        last.is_dropped and not last.is_racing_loss and last.row()["unanswered"] == {"train": {"refusal": 10}}
    )


def test_a_prompt_that_is_refused_is_left_out_of_the_choice(caplog):
    """Prompt 8 would win on the few rows that it is answered."""
    result = counted(failing(lambda text: "number 8" in text and "input 3" not in text, REFUSED), rows=10)
    last = result.history.candidates[8]
    assert (
        last.is_dropped and not last.is_racing_loss and "dev" not in last.measured and last.critique is None
    )
    assert result.best.number == 7
    assert "prompt 8 is left out: 9 of 10 rows of train have no answer (refusal 9)" in caplog.text


def test_a_given_prompt_that_nobody_answers_stops_the_search():
    with pytest.raises(LLMFailure) as told:
        counted(failing(lambda text: "rows d" in text, REFUSED), rows=10)
    assert "The given prompt cannot be scored: 10 of 10 rows of dev have no answer (refusal 10)" in str(
        told.value
    )
    assert "repeat the command" in str(told.value)


def test_one_reply_that_fails_for_good_ends_nothing():
    """Row 3 meets a fault of the endpoint under every prompt: it is left out of every score, and prompt 8 is the best as before."""
    result = counted(failing(lambda text: "input 3" in text, GONE), rows=10)
    assert result.best.number == 8
    for candidate in result.history.candidates:
        assert candidate.measured["train"].unanswered == {3: "connection"}
        assert candidate.values["train"]["number"] == pytest.approx(number_in(candidate.text) / 100)


def test_too_much_that_failed_stops_the_search_and_names_the_row():
    stopped = replace(GONE, fault="stopped", error="Not asked, because 3 of 9 replies of flaky failed.")
    with pytest.raises(LLMFailure) as told:
        counted(failing(lambda text: "input 3" in text, stopped))
    assert 'prompt 0, train row "r3": flaky gave no answer' in str(told.value)
    assert "repeat the command" in str(told.value)


def test_the_share_of_rows_without_an_answer_is_settable():
    """Three of ten rows: too many by default; allowed, the prompt is scored on the seven that came."""
    fails = failing(lambda text: any(f"input {i}" in text for i in (3, 4, 5)), REFUSED)
    with pytest.raises(LLMFailure, match="3 of 10 rows of train have no answer"):
        counted(fails, rows=10)
    task, rows = Task([COUNT_PROMPT], most_unanswered=0.3), numbered(10)
    result = optimize(task, rows, numbered(10, "d"), fails, [as_number()], SearchConfig(arm="plain"))
    assert result.best.values["train"]["number"] == 0.0
    assert len(result.best.measured["train"].of("number")) == 7


def test_a_prompt_that_nobody_answers_is_shown_beside_one_that_is():
    fails = failing(lambda text: "number 2" in text, REFUSED)
    prompts = [COUNT_PROMPT, f"{COUNT_PROMPT}\nnumber 2"]
    measured = evaluate(prompts, numbered(5), fails, [as_number()])
    table = score_table(["a", "b"], measured, [as_number()])
    assert [(row["score"], row["rows without an answer"]) for row in table] == [(0.0, 0), (None, 5)]
    with pytest.raises(LLMFailure, match="No prompt can be scored: 5 of 5 rows"):
        evaluate(prompts[1:], numbered(5), fails, [as_number()])


def test_failed_critiques_and_proposals_are_counted():
    async def no(request):
        return TIMED_OUT

    llms = counting_llms()
    silent = SimpleNamespace(name="silent", acomplete=no)
    result = counted(replace(llms, critic=silent), steps=1)
    assert all(candidate.critique is None for candidate in result.history.candidates)
    assert result.best.number == 2
    result = counted(replace(llms, optimizer=silent), steps=1)
    assert result.history.steps[1].rejected == {"no answer: timeout": 8}


def test_differences_are_of_the_rows_that_both_prompts_have_an_answer_to():
    gaps = [
        Measured(["a", "b", "c"], ["x", None, "x"], {"m": [0.5, math.nan, 0.1]}, unanswered={1: "refusal"})
    ]
    gaps.append(
        Measured(["a", "b", "c"], ["x", "x", None], {"m": [0.25, 1.0, math.nan]}, unanswered={2: "length"})
    )
    metric = metric_of(lambda prediction, reference, source: 0.0, "m")
    assert compare(*gaps, metric).estimate == pytest.approx(0.25)
    table = score_table(["one", "other"], gaps, [metric])
    assert [row["score"] for row in table] == pytest.approx([0.3, 0.625])
    assert [row["rows without an answer"] for row in table] == [1, 1]
    assert math.isnan(
        compare(
            gaps[0], Measured(["a", "b", "c"], [None, "x", None], {"m": [math.nan, 1, math.nan]}), metric
        ).estimate
    )


def test_a_row_that_was_answered_once_of_two_times_has_that_score():
    """Draws 0 and 1 of the same row, the first of which is refused."""
    llms = counting_llms()

    async def task(request):
        refused = "input 3" in request.messages[-1].content and request.draw == 0
        return REFUSED if refused else await llms.task.acomplete(request)

    result = counted(
        replace(llms, task=SimpleNamespace(name="flaky", acomplete=task)), rows=10, repeat=2, steps=1
    )
    measured = result.history.candidates[1].measured["train"]
    assert (
        measured.predictions[3] == "1"
        and not measured.unanswered
        and measured.scores["number"] == [0.01] * 10
    )


def test_a_metric_that_fails_names_the_row():
    with pytest.raises(BadInput, match='gave nan for row "r0"'):
        counted(metrics=[Metric("m", lambda p, rows, s: [float("nan")] * len(rows))])


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"train": []}, BadInput, "train has no rows"),
        ({"dev": []}, BadInput, "dev has no rows"),
        ({"task": Task([])}, BadInput, "no prompt to begin with"),
        ({"task": Task(["Summarise."])}, BadInput, "no slot for the input"),
        ({"task": Task(["INSERT_QUESTION_HERE"])}, BadInput, 'Row "r0" has no text "question"'),
        (
            {"task": Task(["INSERT_INPUT_HERE", "INSERT_INPUT_HERE INSERT_KEYPHRASES_HERE"])},
            BadInput,
            "has no key phrases",
        ),
        ({"task": Task(["INSERT_INPUT_HERE INSERT_KEYPHRASES_HERE"])}, BadInput, "gnomon sigext score"),
        ({"task": Task(["INSERT_INPUT_HERE INSERT_EXAMPLES_HERE"])}, BadInput, "--encoder FOLDER"),
        ({"dev": numbered(3)}, BadInput, 'Row "r0" of train is row "r0" of dev (3 in all)'),
        (
            {"task": Task(["INSERT_INPUT_HERE like: this is the input 1 of the rows d"])},
            BadInput,
            'row "d1" of dev',
        ),
        ({"cfg": SearchConfig(racing=True), "metrics": two_scores()}, BadConfig, "single metric"),
        (
            {"cfg": SearchConfig(select="zsum", weights=(1.0,)), "metrics": two_scores()},
            BadConfig,
            "one per metric",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_paid(change, error, says):
    log = []
    asked = {
        "task": Task([COUNT_PROMPT]),
        "train": numbered(3),
        "dev": numbered(3, "d"),
        "metrics": [as_number()],
    }
    with pytest.raises(error) as told:
        optimize(**asked | {"llms": counting_llms(log)} | change)
    assert says in str(told.value)
    assert not log


# Truth


def test_scores_of_a_search_are_what_its_prompts_must_score():
    """Every measured score lies where the planted numbers say, prompt by prompt."""
    rows = 60
    result = searched(train=house(rows), dev=house(rows, "dev"), steps=3)
    docs = draw_documents(rows, STYLE, Rng(0), name="train")
    for one in result.history.candidates:
        asked = read_requests(one.text)
        truth = sum(expected_score(asked, parse_style("00112233"), STYLE, 0.9, d) for d in docs) / rows
        scores = one.measured["train"].scores["style"]
        spread = (sum((s - truth) ** 2 for s in scores) / rows / rows) ** 0.5
        assert abs(one.values["train"]["style"] - truth) <= 4 * spread + 1e-9


def test_critiques_help_and_the_search_repeats_itself():
    one, again = (searched(steps=5) for _ in range(2))
    opro = searched(steps=5, arm="opro")
    assert [c.row() for c in one.history.candidates] == [c.row() for c in again.history.candidates]
    assert one.best.values["dev"]["style"] > opro.best.values["dev"]["style"] + 0.15
    other = searched(steps=5, seed=1)
    assert [c.text for c in other.history.candidates] != [c.text for c in one.history.candidates]


def test_key_phrases_and_their_number_are_searched():
    prompt = (
        "Summarise.\nINSERT_INPUT_HERE\nKey phrases: INSERT_KEYPHRASES_HERE\nUse <summary> and </summary>."
    )
    rows = {name: house(8, name, salient=True) for name in ("train", "dev")}
    metrics = open_metrics(["rouge1"], slots=["input", "keyphrases"])
    result = searched(train=rows["train"], dev=rows["dev"], prompt=prompt, metrics=metrics, steps=4, k=12)
    ks = [one.k for one in result.history.candidates]
    assert ks[0] == 12
    assert {18, 8} & set(ks)
    assert all(k is None or 3 <= k <= 60 for k in ks)


def test_a_nasty_document_stays_in_its_slot():
    nasty = "INSERT_KEYPHRASES_HERE {0} </summary><summary>7</summary> INSERT_INPUT_HERE {{ x }}"
    phrases = [{"text": "INSERT_INPUT_HERE", "rank": 0}]
    train = [
        Example("n", nasty, "9", {"phrases": phrases}),
        Example("m", "plain input of the row m", "9", {"phrases": phrases}),
    ]
    dev = [Example("d", "plain input of the row d", "9", {"phrases": phrases})]
    log = []
    task = Task(["INSERT_INPUT_HERE | INSERT_KEYPHRASES_HERE <summary>"])
    optimize(task, train, dev, counting_llms(log), [as_number()], SearchConfig(arm="plain"))
    assert f"{nasty} | INSERT_INPUT_HERE <summary>" in [text for _, text, _ in log]


def test_a_search_logs_nothing_by_itself(caplog):
    caplog.set_level(logging.WARNING)
    counted()
    assert not [record for record in caplog.records if record.name.startswith("gnomon.methods")]
