"""From rows to profiles: cells, length, scores, words, other tools' logs, and judges side by side."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fixtures_calm import log_of_rates, made_items, simulated, verdict, write_rows
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.calm import (
    Options,
    analyze,
    audit,
    chosen_probes,
    compare,
    import_log,
    load_cues,
    load_profile,
    power_table,
    read_items,
    write,
)
from gnomon.methods.calm.judging import scoring_trials
from gnomon.methods.calm.measures import (
    items_needed,
    power_of,
    self_effect,
    smallest_effect,
    word_of,
    z_scores,
)

N = 60


def only(rows, probe=None, **options):
    (profile,) = analyze(rows, Options(**options))
    return profile if probe is None else next(cell for cell in profile.cells if cell.probe == probe)


def plain(n=N, again=lambda i: "R1"):
    rows = [verdict(i, "R1", slots=(i % 2, 1 - i % 2)) for i in range(n)]
    return rows + [verdict(i, again(i), draw=1, slots=(i % 2, 1 - i % 2)) for i in range(n)]


def changed(choice, probe="bandwagon", condition="90%, worse", n=N, **more):
    return [verdict(i, choice(i), probe=probe, condition=condition, cued=1, **more) for i in range(n)]


def test_a_cell_by_hand():
    cell = only(
        plain(again=lambda i: "R2" if i < 6 else "R1") + changed(lambda i: "R2" if i < 30 else "R1"),
        "bandwagon",
    )
    assert (cell.n, cell.unparsed) == (N, 0)
    assert (cell.rr[0], cell.cr[0], cell.bis[0], cell.shift[0], cell.flips) == pytest.approx(
        (0.5, 0.9, 0.4, 0.5, 0.5)
    )
    assert cell.word == "biased"


def test_unread_verdicts_are_left_out_counted_and_shown_as_changed():
    rows = plain() + changed(lambda i: None if i < 10 else "R2" if i < 20 else "R1")
    cell = only(rows, "bandwagon")
    assert (cell.n, cell.unparsed) == (50, 10)
    assert cell.rr[0] == pytest.approx(40 / 50)
    assert cell.rr_with_unparsed == pytest.approx(40 / 60)


def test_ties_are_changes_or_halves():
    rows = plain() + changed(lambda i: "tie" if i < 30 else "R1")
    assert only(rows, "bandwagon").rr[0] == pytest.approx(0.5)
    assert only(rows, "bandwagon", half_ties=True).rr[0] == pytest.approx(0.75)
    assert only(rows, "bandwagon").shift[0] == 0  # a tie prefers nobody
    assert only(rows, "bandwagon", half_ties=True).shift[0] == pytest.approx(0.25)


def test_conditions_together_keep_items_together():
    rows = (
        plain()
        + changed(lambda i: "R2" if i < 30 else "R1")
        + changed(lambda i: "R1", condition="60%, worse", dose=60.0)
    )
    cells = {cell.condition: cell for cell in only(rows).cells}
    whole = cells["all"]
    assert (whole.n, whole.rr[0], whole.shift[0]) == (2 * N, pytest.approx(0.75), pytest.approx(0.25))
    assert whole.word == "" and cells["60%, worse"].dose == 60
    one = cells["90%, worse"]
    assert (
        whole.shift[2] - whole.shift[1] > 0.6 * (one.shift[2] - one.shift[1]) / 2
    )  # not as narrow as 2N items would be


def test_kinds_that_split_the_items_are_tested_together():
    rows = [replace(row, set="fact") for row in plain()]
    kinds = ["circular" if i % 2 else "popularity" for i in range(N)]
    more = {"probe": "fallacy-oversight", "cued": 1, "set": "fact"}
    rows += [verdict(i, "R1", condition=kinds[i], **more) for i in range(N)]
    profile = only(rows)
    words = {cell.condition: cell.word for cell in profile.cells}
    assert words == {"circular": "", "popularity": "", "all": "biased"}  # it overlooked them all
    assert profile.words() == {"fallacy-oversight": "biased"}


def test_words_need_power():
    few = only(plain(20, lambda i: "R2" if i % 3 == 0 else "R1") + changed(lambda i: "R1", n=20), "bandwagon")
    assert few.word == "undecided" and few.smallest > 0.1
    # One verdict in twenty differs from run to run, each time another.
    steady = [verdict(i, "R2" if i % 20 == 0 else "R1") for i in range(600)]
    steady += [verdict(i, "R2" if i % 20 == 1 else "R1", draw=1) for i in range(600)]
    many = only(steady + changed(lambda i: "R2" if i % 20 == 2 else "R1", n=600), "bandwagon")
    assert many.word == "no bias seen" and many.smallest <= 0.1


def few_flips(n_flips, n=120):
    """A judge that gives each verdict again, but for `n_flips` items under a cue."""
    return plain(n) + changed(lambda i: "R2" if i < n_flips else "R1", n=n)


def silent(conditions, n=120):
    """Conditions that change no verdict: not one discordant pair."""
    return [
        row
        for i in range(conditions)
        for row in changed(lambda i: "R1", probe="diversity", condition=f"group {i}, worse", n=n)
    ]


@pytest.mark.parametrize("n_flips", [6, 7, 9, 11])
def test_conditions_that_cannot_show_anything_change_no_word(n_flips):
    rows = few_flips(n_flips)
    alone = only(rows, "bandwagon")
    among = only(rows + silent(40) + changed(lambda i: "R1", condition="60%, worse", n=120), "bandwagon")
    assert (alone.p, alone.q, alone.word) == (among.p, among.q, among.word)
    # 2 / 2^d, doubled where the test of a shift and that of consistency are both possible: 6 flips are one test too few for 2.
    assert alone.is_tested == (n_flips >= 7)
    assert alone.word == ("biased" if n_flips >= 7 else "undecided")


def test_nothing_to_test_is_left_out_of_the_family_and_has_its_word_all_the_same():
    cells = {cell.condition: cell for cell in only(few_flips(20) + silent(3)).cells}
    quiet = cells["group 0, worse"]
    assert not quiet.is_tested and quiet.q == 1 and quiet.shift[:2] == (0, 0)
    assert quiet.word == "no bias seen"  # 120 items, none of which moved
    assert cells["90%, worse"].is_tested and cells["90%, worse"].q == pytest.approx(cells["90%, worse"].p)


def test_no_bias_seen_is_never_said_where_an_interval_leaves_out_0():
    # Five verdicts of 400 move, all one way: too few for a test, and the interval of the shift is above 0.
    rows = plain(400) + changed(lambda i: "R2" if i < 5 else "R1", n=400)
    cell = only(rows, "bandwagon")
    assert cell.shift[1] > 0 and not cell.is_tested and cell.smallest < 0.1
    assert cell.word == "undecided" and only(rows).words() == {"bandwagon": "undecided"}


def test_all_conditions_together_may_see_what_none_sees_alone():
    rows = plain(400)
    for k in range(6):  # two verdicts a condition, in other items each time
        rows += changed(
            lambda i, k=k: "R2" if i // 2 == k else "R1", probe="diversity", condition=f"{k}, worse", n=400
        )
    profile = only(rows)
    cells = {cell.condition: cell for cell in profile.cells}
    assert all(cells[f"{k}, worse"].word == "no bias seen" for k in range(6))
    assert cells["all"].shift[1] > 0
    assert profile.words() == {"diversity": "undecided"}


def test_a_family_is_a_bias_whatever_else_is_measured():
    rows = few_flips(8)
    others = [
        row
        for i in range(9)
        for row in changed(
            lambda i: "R2" if i % 10 == 0 else "tie" if i % 10 == 1 else "R1",
            probe="distraction",
            condition=f"about {i}",
            n=120,
        )
    ]
    alone, among = only(rows), only(rows + others)
    assert alone.words()["bandwagon"] == among.words()["bandwagon"] == "biased"
    # All biases together as one family of tests: two, each by its smallest adjusted p-value.
    assert set(among.biased_over_all()) <= {"bandwagon", "distraction"}
    assert alone.biased_over_all() == ["bandwagon"]


def test_verdicts_of_older_profiles_keep_their_meaning(tmp_path):
    only(few_flips(5)).save(tmp_path / "profile.json")
    text = (tmp_path / "profile.json").read_text().replace('"undecided"', '"cannot tell"')
    (tmp_path / "profile.json").write_text(text)
    assert load_profile(tmp_path / "profile.json").words() == {"bandwagon": "undecided"}


def test_flips_among_decisive_pairs_with_ties_apart():
    rows = plain(100, again=lambda i: "R2" if i < 5 else "tie" if i < 15 else "R1")
    rows += changed(lambda i: "tie" if i < 20 else "R2" if i < 60 else "R1", n=100)
    decisive = only(rows, "bandwagon").more["decisive"]
    assert decisive["pairs"] == 80 and decisive["flips"][0] == pytest.approx(40 / 80)
    assert decisive["flips without a change"][0] == pytest.approx(5 / 90)
    assert (decisive["ties before"], decisive["ties after"]) == (0, pytest.approx(0.2))


def test_flips_of_several_conditions_keep_items_together():
    rows = plain(100) + changed(lambda i: "R2" if i < 30 else "R1", n=100)
    rows += changed(lambda i: "R2" if i < 10 else "tie", condition="60%, worse", n=100)
    cells = {cell.condition: cell.more["decisive"] for cell in only(rows).cells}
    assert cells["all"]["pairs"] == 110 and cells["all"]["flips"][0] == pytest.approx(40 / 110)
    assert cells["all"]["ties after"] == pytest.approx(90 / 200)


def test_chain_of_thought_is_accuracy_and_air():
    rows = [verdict(i, "R1" if i < 30 else "R2") for i in range(N)] + [
        verdict(i, "R1" if i < 30 else "R2", draw=1) for i in range(N)
    ]
    rows += [
        verdict(i, "R1" if i < 45 else "R2", probe="chain-of-thought", condition="solve first")
        for i in range(N)
    ]
    cell = only(rows, "chain-of-thought")
    assert (cell.more["accuracy"][0], cell.more["accuracy with CoT"][0]) == pytest.approx((0.5, 0.75))
    assert cell.more["AIR"][0] == pytest.approx(0.5)
    assert cell.word == "biased" and cell.p < 1e-3
    assert "AIR" not in only(rows, "chain-of-thought", version="preprint").more


def test_reasons_that_name_the_cue():
    rows = plain() + changed(lambda i: "R2" if i < 40 else "R1", text="Most people say so.")
    rows = [
        replace(row, text="It is simply better.") if row.probe == "bandwagon" and int(row.item) < 10 else row
        for row in rows
    ]
    cell = only(rows, "bandwagon")
    assert cell.more["flipped"] == 40 and cell.more["cue named"] == pytest.approx(0.75)


def test_a_log_without_plain_verdicts():
    with pytest.raises(BadInput, match="have no plain ones"):
        analyze(changed(lambda i: "R1"))
    with pytest.raises(BadInput, match="no verdicts"):
        analyze([])


def test_a_profile_survives_its_file(tmp_path):
    profile = only(plain() + changed(lambda i: "R2" if i < 30 else "R1"))
    profile.save(tmp_path / "profile.json")
    again = load_profile(tmp_path / "profile.json")
    assert again.cells[0].bis == profile.cells[0].bis and again.averages() == profile.averages()
    (tmp_path / "profile.json").write_text("{}")
    with pytest.raises(BadInput, match="not a profile"):
        load_profile(tmp_path / "profile.json")


# Scores


def test_the_self_effect_is_that_of_least_squares():
    sm = pytest.importorskip("statsmodels.api")
    draw = Rng(1).numpy()
    n, judges = 12, 3
    leniency, own = np.array([0, 1.0, -0.5])[:, None], 0.7 * np.eye(judges)
    scores = draw.normal(5, 1, (n, 1, judges)) + leniency + own + draw.normal(0, 0.3, (n, judges, judges))
    rows, y = [], []
    for i in range(n):
        for j in range(judges):
            for a in range(judges):
                judge, answer = np.eye(judges)[j], np.eye(n * judges)[i * judges + a]
                rows.append([float(j == a), *judge[1:], *answer])
                y.append(scores[i, j, a])
    theirs = sm.OLS(np.array(y), np.array(rows)).fit().params[0]
    assert self_effect(scores).value == pytest.approx(theirs)
    scores[0, 1, 1] = np.nan  # an item with a hole is left out
    assert self_effect(scores).value == pytest.approx(self_effect(scores[1:]).value)


def test_z_scores_take_leniency_out():
    scores = np.random.default_rng(0).normal(5, 1, (200, 2, 2))
    scores[:, 1] += 3
    assert np.abs(z_scores(scores).mean(1)).max() < 1e-9


def test_self_enhancement_needs_two_judges_and_blind_answers():
    items = made_items(25, sets=("alignment",))
    judges = [simulated(f"voice={voice}&own=2", name=voice) for voice in ("One.", "Two.")]
    answers = {judge.name: judge.answer([item.question for item in items]) for judge in judges}
    answers["Two."][0] = answers["One."][0]
    answers["Two."][1] = None
    trials, dropped = scoring_trials(items, answers)
    assert dropped == {"same answer": 1, "no answer": 1} and len(trials) == 2 * 23
    for trial in trials:
        prompt = judges[0].prompting.prompt(trial)
        assert "by One." not in prompt and "[Start of reference answer]" in prompt
    from gnomon.methods.calm.judging import run_trials

    rows = [row for judge in judges for row in run_trials(judge, trials)]
    first, _ = analyze(rows)
    cell = first.cells[0]
    assert cell.probe == "self-enhancement" and cell.n == 23 and cell.word == "biased"
    own, other = cell.more["own score"], cell.more["others' score"]
    assert cell.more["error rate"][0] == pytest.approx(own / other - 1)
    assert 1 < cell.more["effect of being one's own, over all judges"][0] < 3
    (alone,) = analyze([row for row in rows if row.judge == "One."])
    assert "at least two judges" in alone.skipped["self-enhancement"]


def test_refined_answers_with_and_without_their_history():
    items = [replace(item, answers=item.answers[:1]) for item in made_items(80, sets=("refinement",))]
    from gnomon.methods.calm import Rewrite

    items = [
        item.adding([Rewrite("refinement-aware", "polished", 0, f"{item.answers[0]}\nDone.")])
        for item in items
    ]
    (profile,) = analyze(audit(simulated("refined=1"), items, chosen_probes(["refinement-aware"])))
    cell = next(cell for cell in profile.cells if cell.condition == "refined, history shown")
    assert cell.more["error rate"][1] > 0 and cell.word == "biased"
    assert cell.shift[1] < 1 < cell.shift[2]
    (null,) = analyze(audit(simulated(), items, chosen_probes(["refinement-aware"])))
    assert null.words()["refinement-aware"] != "biased"


# Power


def test_power_is_that_of_the_normal_approximation():
    n, discordant = 400, 0.36
    smallest = smallest_effect(discordant, n, tests=1)
    assert smallest == pytest.approx((1.959964 + 0.841621) * np.sqrt(discordant / n), rel=1e-5)
    assert power_of(smallest, discordant, n, tests=1) == pytest.approx(0.8, abs=1e-3)
    assert abs(items_needed(smallest, discordant, tests=1) - n) <= 1
    assert smallest_effect(0.1, 0) == np.inf and power_of(0.5, 0.1, 0) == 0
    draw = Rng(0).numpy()  # and of the exact test itself, about
    from gnomon.core.metrics.stats import mcnemar

    gained, lost = 0.18 + smallest / 2, 0.18 - smallest / 2
    u = draw.random((2000, n))
    p = mcnemar((u < lost).sum(1), ((u >= lost) & (u < lost + gained)).sum(1))
    assert (p < 0.05).mean() == pytest.approx(0.8, abs=0.06)


def test_words_and_the_table():
    assert word_of(0.01, 0.3, 10, smallest=0.1) == "biased"
    assert word_of(0.5, 0.3, 10, smallest=0.1) == "undecided"
    assert word_of(0.5, 0.3, 10_000, smallest=0.1) == "no bias seen"
    assert word_of(0.5, 0.3, 10_000, smallest=0.1, is_off_zero=True) == "undecided"
    table = power_table(150, 0.8, 0.9, (0.1, 0.2))
    assert table.rr == pytest.approx((0.8, 0.729, 0.856), abs=2e-3)
    assert table.rows[0][1] < table.rows[1][1] and table.rows[0][2] > table.rows[1][2]
    with pytest.raises(BadConfig, match="effect must be > 0"):
        items_needed(0, 0.1)


# Logs of others


def test_judgebench_golden_file(shared_data):
    path = shared_data / "judge" / "judgebench_claude-3-haiku.jsonl"
    if not path.is_file():
        pytest.skip("no JudgeBench log beside the repository")
    cell = only(import_log(path, "judgebench")[0], "position")
    assert (cell.n, cell.n + cell.unparsed) == (257, 270)
    assert cell.rr[0] == pytest.approx(135 / 257) and cell.rr[0] == pytest.approx(0.525, abs=5e-4)
    assert cell.rr_with_unparsed == pytest.approx(0.5)
    assert cell.cr is None and cell.bis is None
    # 37 pairs prefer the first slot twice, 7 the second twice.
    decisive = cell.more["decisive"]
    assert decisive["flips"][0] == pytest.approx(44 / decisive["pairs"])
    assert cell.more["slot effect (log-odds)"] == pytest.approx(0.5 * np.log(37.5 / 7.5))
    assert cell.word == "biased"


def judgebench(pair, label, first, second):
    return {
        "pair_id": pair,
        "label": label,
        "judge_name": "j",
        "judgments": [{"decision": first}, {"decision": second}],
    }


def test_judgebench_by_hand(tmp_path):
    rows = [judgebench("a", "A>B", "A>B", "B>A"), judgebench("b", "B>A", "A>B", "A>B"), judgebench("c", "B>A", "B>A", None),
            judgebench("d", "A>B", "A=B", "A=B")]  # fmt: skip
    log, _ = import_log(write_rows(tmp_path / "log.jsonl", rows), "judgebench")
    assert [row.choice for row in log] == ["R1", "R1", "R2", "R1", "R1", None, "tie", "tie"]
    cell = only(log, "position")
    assert (cell.n, cell.unparsed, cell.rr[0]) == (3, 1, pytest.approx(2 / 3))
    assert cell.more["first slot"][0] == pytest.approx(3 / 5)


def test_pairs_of_mt_bench(tmp_path):
    def row(question, first, second):
        return {"question_id": question, "model_1": "m", "model_2": "n", "g1_winner": first, "g2_winner": second,
                "judge": ["gpt-4", "pair-v2"], "turn": 1}  # fmt: skip

    rows = [
        row(1, "model_1", "model_1"),
        row(2, "model_1", "model_2"),
        row(3, "tie", "tie"),
        row(4, "error", "model_2"),
    ]
    log, _ = import_log(write_rows(tmp_path / "log.jsonl", rows), "mtbench-pair")
    assert {one.judge for one in log} == {"gpt-4"}
    cell = only(log, "position")
    assert (cell.n, cell.unparsed, cell.rr[0]) == (3, 1, pytest.approx(2 / 3))
    assert cell.more["slot effect (log-odds)"] > 0  # question 2: model_1 when first, model_2 when first


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"label": "A>B"}, 'field "judgments" is missing'),
        (judgebench("a", "A", "A>B", "B>A"), 'field "label" must be A>B or B>A'),
        (judgebench("a", "A>B", "AB", "B>A"), "a decision must be"),
        ({"label": "A>B", "judgments": [{}]}, "must hold two"),
        ({"label": "A>B", "judgments": "x"}, "must be a list; got str"),
    ],
)
def test_logs_of_another_format(tmp_path, row, says):
    with pytest.raises(BadInput) as told:
        import_log(write_rows(tmp_path / "log.jsonl", [row]), "judgebench")
    assert says in str(told.value) and "log.jsonl, line 1" in str(told.value)
    with pytest.raises(BadInput, match="no format of verdicts"):
        import_log(tmp_path / "log.jsonl", "xml")


def test_rows_of_a_log_that_cannot_be_used_are_named_and_left_out(tmp_path):
    rows = [judgebench("a", "A>B", "A>>B", "B>A"), judgebench("b", "A", "A>B", "B>A")]
    log, skipped = import_log(write_rows(tmp_path / "log.jsonl", rows))
    assert [row.item for row in log] == ["a", "a"] and log[0].choice == "R1"
    (row,) = skipped
    assert row.id == "b" and row.where.endswith("line 2") and "must be A>B or B>A" in row.reason


def test_a_table_of_winners(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(
        "question_id,model_a,model_b,winner,judge\n"
        "1,x,y,model_a,j\n1,y,x,model_a,j\n"  # the first slot twice
        "2,x,y,model_a,j\n2,y,x,model_b,j\n2,x,y,tie,j\n"  # x twice; the third is a second draw of the first order
        "3,x,y,model_b,k\n3,y,x,nobody,j\n"
    )
    log, skipped = import_log(path)
    found = [(row.judge, row.item, row.probe, row.draw, row.choice) for row in log]
    assert found == [
        ("j", "1|x|y", "plain", 0, "R1"), ("j", "1|x|y", "position", 1000, "R2"),
        ("j", "2|x|y", "plain", 0, "R1"), ("j", "2|x|y", "position", 1000, "R1"), ("j", "2|x|y", "plain", 1, "tie"),
        ("k", "3|x|y", "plain", 0, "R2"), ("j", "3|x|y", "plain", 0, None),
    ]  # fmt: skip
    assert log[1].slots == [1, 0] and skipped == []


def test_annotations_of_alpaca_eval(tmp_path):
    """It shuffles the order that it shows and does not say how: no slot is claimed."""
    same = {
        "output_1": "The reference says this.",
        "generator_1": "ref",
        "output_2": "Mine is that.",
        "generator_2": "mine",
    }
    rows = [
        same | {"instruction": f"Say {i}.", "annotator": "gpt4", "preference": preference}
        for i, preference in enumerate((1.0, 2.0, 1.5, 1.97, None))
    ]
    (tmp_path / "annotations.json").write_text(json.dumps(rows))
    log, skipped = import_log(tmp_path / "annotations.json", "alpacaeval")
    # Responses go by the names of the generators: mine is R1, the reference R2.
    assert [row.choice for row in log] == ["R2", "R1", "tie", "R1", None] and skipped == []
    assert {(row.judge, tuple(row.slots), row.probe) for row in log} == {("gpt4", (), "plain")}
    assert import_log(tmp_path / "annotations.json")[0] == log
    profile = only(log)
    assert profile.cells == [] and profile.sets["alignment"]["items"] == 5
    items, dropped = read_items(tmp_path / "annotations.json")
    assert [item.answers[0] for item in items] == [
        "The reference says this.", "Mine is that.", "Mine is that."
    ]  # fmt: skip
    assert len(dropped.skipped) == 2


# Side by side


def test_comparison_by_hand():
    left = log_of_rates(100, {"bandwagon": 0.9}, {"alignment": 0.95}, judge="left")
    right = log_of_rates(100, {"bandwagon": 0.7}, {"alignment": 0.75}, judge="right")
    found = compare(left + right)
    (one,) = found.contrasts
    assert (one.n, one.rr[0], one.bis[0], one.shift[0]) == (
        100,
        pytest.approx(0.2),
        pytest.approx(0, abs=1e-9),
        pytest.approx(-0.2),
    )
    worse = log_of_rates(100, {"bandwagon": 0.6}, {"alignment": 0.95}, judge="worse")
    assert compare(left + worse).contrasts[0].q < 0.01
    noisy = log_of_rates(100, {"bandwagon": 0.6}, {"alignment": 0.61}, judge="noisy")
    assert compare(left + noisy).swaps == ["bandwagon: left has the higher RR, and noisy the lower BIS"]
    with pytest.raises(BadInput, match="two judges or more"):
        compare(left)


def test_judges_without_common_items_are_not_compared():
    left = log_of_rates(50, {"bandwagon": 0.9}, {"alignment": 0.95}, judge="left")
    others = log_of_rates(50, {"bandwagon": 0.7}, {"alignment": 0.75}, judge="right")
    others = [replace(row, item=f"other {row.item}") for row in others]
    with pytest.raises(BadInput) as error:
        compare(left + others)
    message = str(error.value)
    assert "left and right have judged no item in common" in message and '"0"' in message
    assert '"other 0"' in message and "\n" not in message
    # Other conditions of the same items are not in common either.
    apart = [replace(row, condition="60%, worse") if row.probe == "bandwagon" else row for row in others]
    with pytest.raises(BadInput, match="no item in common under the same condition"):
        compare(left + [replace(row, item=row.item.removeprefix("other ")) for row in apart])


def test_of_three_judges_the_pair_without_common_items_is_named():
    left = log_of_rates(50, {"bandwagon": 0.9}, {"alignment": 0.95}, judge="left")
    right = log_of_rates(50, {"bandwagon": 0.7}, {"alignment": 0.75}, judge="right")
    third = [replace(row, judge="third", item=f"other {row.item}") for row in right]
    compared = compare(left + right + third)
    assert [(c.left, c.right) for c in compared.contrasts] == [("left", "right")]
    assert len(compared.apart) == 2 and "left and third" in compared.apart[0]


def test_judges_are_compared_on_what_both_judged():
    items = write(made_items(30), chosen_probes(["authority"]), load_cues(), Rng(0)).items
    probe = chosen_probes(["authority"])
    rows = audit(simulated(name="a"), items, probe) + audit(simulated(name="b"), items[40:], probe)
    (one,) = compare(rows).contrasts
    assert one.n == 20 * 6


def test_position_of_a_judge_shows_in_its_profile():
    items = made_items(150, sets=("alignment",), candidates=4)
    (profile,) = analyze(audit(simulated("position=2"), items, chosen_probes(["position"])))
    for cell in profile.cells:
        assert cell.word == "biased" and cell.shift[1] > 0
        assert cell.more["candidates"] == int(cell.condition[0])
    assert profile.words() == {"position": "biased"}


def test_the_paired_test_of_scores_is_scipy_s():
    from scipy.stats import ttest_rel

    from gnomon.methods.calm.measures import error_rate

    draw = Rng(7).numpy()
    left, right = draw.normal(6, 1, 40), draw.normal(5.5, 1, 40)
    assert error_rate(left, right).p == pytest.approx(ttest_rel(left, right).pvalue)
    right[3] = np.nan
    assert error_rate(left, right).p == pytest.approx(
        ttest_rel(np.delete(left, 3), np.delete(right, 3)).pvalue
    )
    assert error_rate(left, left).p == 1
