"""Items from files, probes, cues, and the plan of an audit."""

import json
from collections import Counter
from dataclasses import replace

import pytest

from fixtures_calm import made_items, released, simulated, write_rows
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.calm import (
    Item,
    Probe,
    Prompting,
    Rewrite,
    Variant,
    analyze,
    audit,
    chosen_probes,
    load_cues,
    probes,
    read_items,
    write,
)
from gnomon.methods.calm.judging import CHANGED_DRAW, plan_audit
from gnomon.methods.calm.planted import seen
from gnomon.methods.calm.stimuli import Cues, is_explicit

GOOD = {"question": "Why?", "answer1": "Because.", "answer2": "No idea."}


def read(tmp_path, *rows, name="data.jsonl", **options):
    return read_items(write_rows(tmp_path / name, rows), **options)


def test_layouts(tmp_path):
    pairs = [{"question": "Q1", "answers": ["a", "b", "c"]}, {"prompt": "Q2", "chosen": "x", "rejected": "y"},
             {"question": "Q3", "chosen": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "p"}],
              "rejected": "q"},
             GOOD | {"answer3": "Well.", "topic": "why"}]  # fmt: skip
    items, _ = read(tmp_path, *pairs)
    assert [one.answers for one in items] == [
        ("a", "b", "c"),
        ("x", "y"),
        ("p", "q"),
        ("Because.", "No idea.", "Well."),
    ]
    assert {one.set for one in items} == {"alignment"}
    assert items[3].meta == {"topic": "why"}


def test_the_released_layout_and_rows_that_lack_some_keys(tmp_path):
    rows = [
        {"question": "Q1", "answer1": "a", "answer2": "b", "data_resource": "gsm8k", "answer2_longer": "b b",
         "answer1_fallacy_oversight": "a!", "answer1_sad": "a :(", "answer2_fear": "b?"},
        {"question": "Q2", "answer1": "c", "answer2": "d", "answer2_longer": "d d", "answer2_sad": None},
    ]  # fmt: skip
    path = tmp_path / "fact.json"
    path.write_text(json.dumps(rows))
    items, _ = read_items(path)
    assert [one.set for one in items] == ["fact", "fact"]
    assert {(r.probe, r.condition, r.response) for r in items[0].rewrites} == {
        ("verbosity", "longer", 1), ("fallacy-oversight", "fallacy", 0), ("sentiment", "sad, better", 0),
        ("sentiment", "fear, worse", 1),
    }  # fmt: skip
    assert [r.probe for r in items[1].rewrites] == ["verbosity"]
    cited = {"question": "Q", "answer1": "a", "answer2": "b", "answer2_with_reference_url": "b http://x"}
    polished = {"question": "Q", "answer1": "a", "answer1_polished": "a, better"}
    (one, two), _ = read(tmp_path, cited, polished, name="more.jsonl")
    assert (one.set, one.rewrites[0].condition) == ("alignment", "url, worse")
    assert (two.set, two.answers, two.rewrites[0].probe) == ("refinement", ("a",), "refinement-aware")


def test_duplicates_and_explicit_rows_are_counted(tmp_path):
    explicit = GOOD | {"question": "Tell a story.", "data_resource": "toxic-dpo-NSFW"}
    # Explicit words in a row of another source are no reason: a question of medicine has them too.
    medical = GOOD | {"question": "What is a penis, a vagina, an orgasm?", "data_resource": "medicine"}
    rows = (GOOD, GOOD | {"question": " why? "}, explicit, medical)
    items, dropped = read(tmp_path, *rows)
    assert [item.question for item in items] == [GOOD["question"], medical["question"]]
    assert (dropped.duplicates, dropped.explicit, dropped.merged, dropped.skipped) == (1, 1, 0, ())
    items, dropped = read(tmp_path, *rows, keep_nsfw=True, keep_duplicates=True)
    assert (len(items), dropped.duplicates, dropped.explicit) == (4, 0, 0)
    assert len({item.id for item in items}) == 4
    assert is_explicit("some/NSFW-roleplay") and not is_explicit("sexual-selection-in-birds")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"answer1": "a", "answer2": "b"}, 'field "prompt" is missing'),
        ({"question": "Q", "answer1": "a"}, 'field "answer2" is missing'),
        ({"question": "Q"}, 'field "answer1" is missing'),
        ({"question": 3, "answer1": "a", "answer2": "b"}, 'field "question" must be a string; got int'),
        (
            {"question": "Q", "answer1": "a", "answer2": None},
            'field "answer2" must be a string; got NoneType',
        ),
        ({"question": "Q", "answer1": "same", "answer2": " same"}, "two of its answers are the same"),
        ({"question": "Q", "answer1": "a", "answer2": " "}, "answer 2 is empty"),
        ({"question": "  ", "answer1": "a", "answer2": "b"}, "empty question"),
        ({"question": "Q", "answers": ["a"]}, "1 answers; at least 2 are needed"),
        ({"question": "Q", "answers": "ab"}, "must be a list of strings"),
        (GOOD | {"set": "facts"}, 'is of the set "facts"'),
    ],
)
def test_bad_rows_are_left_out_with_their_line_name_and_reason(tmp_path, row, says):
    items, dropped = read(tmp_path, GOOD | {"question": "fine"}, row | {"id": "x7"}, GOOD)
    assert [item.question for item in items] == ["fine", "Why?"]
    (skipped,) = dropped.skipped
    assert skipped.where.endswith("data.jsonl, line 2") and skipped.id == "x7" and says in skipped.reason
    assert "\n" not in skipped.reason and dropped.counts["skipped"] == 1
    with pytest.raises(BadInput) as error:  # nothing else is there
        read(tmp_path, row)
    assert "data.jsonl, line 1" in str(error.value) and says in str(error.value)


def test_items_of_one_name_keep_apart(tmp_path):
    """Files may number their rows each from 1."""
    items, _ = read(tmp_path, GOOD | {"id": 1}, GOOD | {"id": 1, "question": "Another?"})
    assert items[0].id == "1" and items[1].id.startswith("1-") and len(items) == 2


def test_rows_without_a_name_keep_theirs_wherever_they_stand(tmp_path):
    rows = [GOOD | {"question": f"Q{i}"} for i in range(5)]
    before = {item.question: item.id for item in read(tmp_path, *rows)[0]}
    after = {item.question: item.id for item in read(tmp_path, GOOD | {"question": "new"}, *rows[::-1])[0]}
    assert len(set(before.values())) == 5 and before.items() <= after.items()


# The released data set: a folder, sub-folders, several files for the same questions


def test_the_released_folder_loads_whole(tmp_path):
    items, dropped = read_items(released(tmp_path / "calm-release"))
    assert Counter(item.set for item in items) == {"fact": 12, "alignment": 11, "refinement": 4}
    counts = Counter((rewrite.probe, rewrite.condition) for item in items for rewrite in item.rewrites)
    assert counts["verbosity", "longer"] == counts["fallacy-oversight", "fallacy"] == 12
    assert counts["sentiment", "sad, better"] == 4 and counts["sentiment", "sad, worse"] == 5
    assert counts["authority", "url, worse"] == 5  # the sixth is from the explicit source
    assert counts["refinement-aware", "polished"] == 4
    # Rewrites of one question from several files are together on one item.
    (item,) = [item for item in items if item.question == "fact question 0?"]
    assert {rewrite.probe for rewrite in item.rewrites} == {"verbosity", "fallacy-oversight", "sentiment"}
    assert item.answers == ("fact right 0", "fact wrong 0") and item.source == "fact-source"
    # verbosity 12, fallacy 12, sentiment 5, authority 5 joined; one question of the alignment file stands twice, and the
    # refinement file is there twice; a row of an explicit source is in two files.
    assert dropped.counts == {"duplicates": 1 + 4, "explicit": 2, "merged": 34, "skipped": 0}


def test_files_and_rows_that_cannot_be_used_do_not_stop_a_folder(tmp_path):
    folder = released(tmp_path / "calm-release")
    (folder / "bias_datasets" / "broken.json").write_text('[{"question": ')
    rows = json.loads((folder / "base_datasets" / "fact_related_dataset.json").read_text())
    rows[1]["answer1"] = 7
    rows.append("no row at all")
    (folder / "base_datasets" / "more_fact.json").write_text(json.dumps(rows))
    items, dropped = read_items(folder)
    assert Counter(item.set for item in items)["fact"] == 12
    reasons = {skipped.where.rpartition("/")[2]: skipped.reason for skipped in dropped.skipped}
    assert set(reasons) == {"broken.json", "more_fact.json, item 2", "more_fact.json, item 13"}
    assert 'field "answer1" must be a string; got int' in reasons["more_fact.json, item 2"]


def test_a_rewrite_with_a_name_that_nobody_foresaw_goes_by_its_file(tmp_path):
    row = GOOD | {"answer1_disgust": "Because, ugh.", "answer2_in_a_rage": "NO IDEA!", "answer1_note": 5}
    (item,), dropped = read(tmp_path, row, name="sentiment_more.jsonl")
    assert item.set == "fact"
    assert {(r.probe, r.condition, r.response) for r in item.rewrites} == {
        ("sentiment", "disgust, better", 0), ("sentiment", "in a rage, worse", 1),
    }  # fmt: skip
    assert 'field "answer1_note" must be a string' in dropped.skipped[0].reason
    (plain,), _ = read(tmp_path, row, name="pairs.jsonl")
    assert plain.rewrites == () and plain.meta["answer1_disgust"] == "Because, ugh."


# Tables of pairs in other layouts


def test_a_table_of_commas(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(
        "\ufeffid,question,answer1,answer2,answer3,answer2_longer,source\n"
        'a,"Why, though?","Because\nit is.",No idea.,,"No idea, none, not at all.",forum\n'
        "b,How?,So.,Not so.,Or so.,,forum\n"
        "c,Broken\n"
        "d,When?,Now.,Now.,,,forum\n",
        "utf-8",
    )
    items, dropped = read_items(path)
    assert [(item.id, len(item.answers)) for item in items] == [("a", 2), ("b", 3)]
    assert items[0].answers[0] == "Because\nit is." and items[0].rewrites[0].probe == "verbosity"
    assert [skipped.reason.partition(": ")[2] for skipped in dropped.skipped] == [
        "has not as many fields as the header.",
        'item "d": two of its answers are the same. Drop the item: nothing can tell them apart.',
    ]
    (tmp_path / "semi.csv").write_text("question;answer1;answer2\nWhy?;So, so.;No, no.\n")
    assert read_items(tmp_path / "semi.csv")[0][0].answers == ("So, so.", "No, no.")


@pytest.mark.parametrize(
    "wrapped",
    [{"version": "1.0", "data": [GOOD]}, {"a": GOOD}, GOOD, [GOOD]],
    ids=["under a name", "by id", "alone", "a list"],
)
def test_rows_of_a_json_file_however_they_are_wrapped(tmp_path, wrapped):
    (tmp_path / "rows.json").write_text(json.dumps(wrapped, indent=2))
    items, _ = read_items(tmp_path / "rows.json")
    assert [item.answers for item in items] == [("Because.", "No idea.")]


LONG = ("The first answer is this one here.", "Another answer, which is not as good.")


@pytest.mark.parametrize(
    ("row", "question"),
    [
        # AlpacaEval's annotations: preference is 1, 2 or between.
        ({"instruction": "Say it.", "output_1": LONG[1], "generator_1": "ref", "output_2": LONG[0], "generator_2": "m",
          "dataset": "helpful_base", "annotator": "gpt4", "preference": 1.9, "raw_completion": "a long " * 50}, "Say it."),
        # JudgeBench.
        ({"pair_id": "p", "question": "Say it.", "response_model": "m", "response_A": LONG[0], "response_B": LONG[1],
          "label": "A>B"}, "Say it."),
        # MT-bench's human judgments: conversations, the winner by its column, and a turn that is no winner.
        ({"question_id": 81, "model_a": "x", "model_b": "y", "winner": "model_b", "judge": "expert_1", "turn": 1,
          "conversation_a": [{"role": "user", "content": "Say it."}, {"role": "assistant", "content": LONG[1]}],
          "conversation_b": [{"role": "user", "content": "Say it."}, {"role": "assistant", "content": LONG[0]}]}, "Say it."),
        # A table of one's own: the winner is named by its author.
        ({"Task text": "Say it in one word.", "Answer A": LONG[1], "Answer B": LONG[0], "System A": "old", "System B": "new",
          "best": "new"}, "Say it in one word."),
        # The better answer has its own column.
        ({"user_query": "Say it.", "better_response": LONG[0], "worse_response": LONG[1]}, "Say it."),
    ],
    ids=["alpacaeval", "judgebench", "mt-bench", "own", "ordered"],
)  # fmt: skip
def test_pairs_are_found_by_what_their_fields_hold(tmp_path, row, question):
    (item,), dropped = read(tmp_path, row)
    assert (item.question, item.answers) == (question, LONG), item
    assert dropped.skipped == ()
    if "generator_1" in row:
        assert item.authors == ["m", "ref"]  # the better one's author first


def test_rows_that_prefer_neither_are_left_out_with_the_reason(tmp_path):
    row = {"instruction": "Say it.", "output_1": LONG[0], "output_2": LONG[1]}
    items, dropped = read(tmp_path, *(row | {"instruction": f"Say {i}.", "preference": 1 + i % 2} for i in range(20)),
                          row | {"preference": 1.5})  # fmt: skip
    assert len(items) == 20 and items[1].answers == LONG[::-1]
    assert 'field "preference" prefers neither answer' in dropped.skipped[0].reason


def test_a_preference_set_of_whole_conversations(tmp_path):
    begin = "\n\nHuman: Hello?\n\nAssistant: Yes: what is it?\n\nHuman: Say it.\n\nAssistant:"
    (item,), _ = read(tmp_path, {"chosen": f"{begin} It is so: good.", "rejected": f"{begin} It is no."})
    assert item.answers == ("It is so: good.", "It is no.")
    assert item.question.startswith("Human: Hello?") and item.question.endswith("Human: Say it.")


def test_real_preferences_and_real_pairs(shared_data):
    preferences = shared_data / "preferences" / "hh_harmless_test.jsonl.gz"
    judged = shared_data / "judge" / "judgebench_claude-3-haiku.jsonl"
    if not preferences.is_file() or not judged.is_file():
        pytest.skip("no real data beside the repository")
    items, dropped = read_items(preferences, keep_duplicates=True)
    assert len(items) > 2200 and len(items) + len(dropped.skipped) == 2312
    assert all(
        "Human:" in item.question and "\n\nHuman:" not in item.answers[0][-300:] for item in items[:50]
    )
    items, dropped = read_items(judged)
    rows = [json.loads(line) for line in judged.read_text("utf-8").splitlines()]
    # Two of its pairs hold the same answer twice or repeat a question.
    assert len(items) + dropped.duplicates + len(dropped.skipped) == len(rows) == len(items) + 2
    pairs = {(row["question"], *sorted((row["response_A"], row["response_B"]))) for row in rows}
    assert all((item.question, *sorted(item.answers)) in pairs for item in items)
    better = {row["response_A"] if row["label"] == "A>B" else row["response_B"] for row in rows}
    assert all(item.answers[0] in better for item in items)


def test_items_survive_a_file(tmp_path):
    from gnomon.core import records

    items = write(made_items(2), chosen_probes(["all"]), load_cues(), Rng(0)).items
    records.write(tmp_path / "items.jsonl", items)
    again, _ = read_items(tmp_path / "items.jsonl")
    assert again == items


# Probes and cues


def test_there_are_twelve_and_names_are_checked():
    assert len(probes()) == 12
    assert [p.name for p in chosen_probes(["verbosity,sentiment", "position"])] == [
        "verbosity",
        "sentiment",
        "position",
    ]
    with pytest.raises(BadConfig, match=r'no bias "verbsity"\. Did you mean "verbosity"'):
        chosen_probes(["verbsity"])
    with pytest.raises(BadConfig, match="No bias is named"):
        chosen_probes([" "])


def test_conditions_of_an_item():
    cues = load_cues()
    (item,) = write(
        made_items(1, sets=("alignment",), candidates=4), chosen_probes(["all"]), cues, Rng(0)
    ).items
    made = {name: probe.make(item, cues, Rng(0)) for name, probe in probes().items()}
    counts = {name: len(found) for name, found in made.items()}
    assert counts["position"] == 1 + 2 + 3
    assert counts["bandwagon"] == 8 and counts["diversity"] == 12 and counts["authority"] == 6
    assert counts["distraction"] == counts["compassion-fade"] == 2 and counts["chain-of-thought"] == 1
    assert {v.dose for v in made["bandwagon"]} == {60, 70, 80, 90}
    both = [v.names for v in made["compassion-fade"]]
    assert both[0] == both[1][::-1]  # names are shown both ways round
    assert len({v.note for v in made["distraction"]}) == 1  # the same remark about either side
    for found in made.values():
        assert {v.cued for v in found} in ({0, 1}, {None}, set())


def test_cues_are_one_file_that_can_be_replaced(tmp_path):
    import yaml

    raw = vars(load_cues()) | {"groups": {"left-handed": "left-handed"}}
    file = tmp_path / "cues.yaml"
    file.write_text(yaml.safe_dump(raw))
    mine = load_cues(file)
    variants = probes()["diversity"].make(made_items(1, sets=("alignment",))[0], mine, Rng(0))
    assert [v.condition for v in variants] == ["left-handed, better", "left-handed, worse"]
    for change, says in (
        ({"groups": {}}, "groups must not be empty"),
        ({"majority": "all prefer {cued}"}, "must hold {percent}"),
        ({"names": [["a", "a"]]}, "two different names"),
    ):
        file.write_text(yaml.safe_dump(raw | change))
        with pytest.raises(BadConfig, match=says):
            load_cues(file)
    file.write_text("just words")
    with pytest.raises(BadInput, match="mapping"):
        load_cues(file)
    with pytest.raises(BadInput, match="cannot be read"):
        load_cues(tmp_path / "none.yaml")


def test_no_group_stands_in_the_code():
    from pathlib import Path

    import gnomon.methods.calm as room

    for path in Path(room.__file__).parent.glob("*.py"):
        for word in ("muslim", "refugee", "homosexual", "hiv"):
            assert word not in path.read_text("utf-8").lower(), (path.name, word)


# The plan


@pytest.fixture(scope="module")
def plan():
    cues = load_cues()
    items = write(made_items(20, candidates=3), chosen_probes(["all"]), cues, Rng(0)).items
    return plan_audit(items, chosen_probes(["all"]), cues, Rng(5))


def test_slots_are_balanced_and_the_same_in_every_trial_of_an_item(plan):
    first = {}
    for trial in plan.trials:
        if trial.probe == "position" or trial.kind == "score":
            continue
        assert first.setdefault((trial.set, trial.item), trial.slots[0]) == trial.slots[0]
    for name in ("fact", "alignment"):
        assert Counter(slot for (where, _), slot in first.items() if where == name) == {0: 10, 1: 10}
    for trial in plan.trials:
        assert trial.answers[trial.slots.index(0)] != trial.answers[trial.slots.index(1)]


def test_plain_runs_are_shared_and_independent(plan):
    plain = [t for t in plan.trials if t.probe == "plain" and t.set == "fact"]
    assert Counter(t.draw for t in plain) == {0: 20, 1: 20}
    assert all(t.draw == CHANGED_DRAW for t in plan.trials if t.probe != "plain")
    three = [t for t in plan.trials if t.probe == "plain" and t.condition == "3 candidates"]
    assert Counter(t.draw for t in three) == {0: 20, 1: 20, 2: 20}  # the floor of three rotations
    keys = [t.key for t in plan.trials]
    assert len(set(keys)) == len(keys)


def test_every_rotation_shows_every_answer_once_in_every_slot(plan):
    rows = [
        t for t in plan.trials if t.condition == "3 candidates" and (t.probe == "position" or t.draw == 0)
    ]
    by_item = {}
    for trial in rows:
        by_item.setdefault(trial.item, []).append(trial.slots)
    for orders in by_item.values():
        assert len(orders) == 3
        for slot in range(3):
            assert {order[slot] for order in orders} == {0, 1, 2}


def test_what_cannot_be_measured_is_said(plan):
    assert plan.skipped == {"refinement-aware": "no items of the refinement set"}
    cues, bare = load_cues(), made_items(4)
    told = plan_audit(bare, chosen_probes(["all"]), cues, Rng(0), reads=frozenset({"answers"})).skipped
    assert told["position"] == "this judge does not read order"
    assert "gnomon calm perturb" in told["verbosity"]


def test_one_more_probe_moves_no_slot():
    cues, items = load_cues(), made_items(10, sets=("alignment",))
    few = plan_audit(items, chosen_probes(["bandwagon"]), cues, Rng(1))
    many = plan_audit(items, chosen_probes(["bandwagon", "distraction", "position"]), cues, Rng(1))
    assert {t.key for t in few.trials} <= {t.key for t in many.trials}


def test_each_cue_of_the_room_is_seen_by_the_simulated_judge_and_no_other():
    """The room's wording and the world's patterns fit, for every sentence of the file."""
    cues = load_cues()
    items = write(made_items(6), chosen_probes(["all"]), cues, Rng(0)).items
    plan = plan_audit(items, chosen_probes(["all"]), cues, Rng(0))
    for trial in plan.trials:
        found = seen(Prompting().prompt(trial)).candidates
        shown = {
            "authority": [one.is_cited for one in found], "sentiment": [one.has_tone for one in found],
            "fallacy-oversight": [one.fallacies > 0 for one in found], "bandwagon": [one.majority > 0 for one in found],
            "distraction": [one.is_aside for one in found], "diversity": [one.is_group for one in found],
            "compassion-fade": [one.name == "GPT-4" for one in found],
        }  # fmt: skip
        for name, flags in shown.items():
            assert sum(flags) == (trial.probe == name), (trial.probe, name, trial.condition)
            if trial.probe == name:
                response = trial.slots[flags.index(True)]
                assert response == (0 if name == "fallacy-oversight" else trial.cued)


class Shouting(Probe):
    """A bias of one's own: the worse answer in capitals."""

    name, set, target = "shouting", "alignment", "answers"

    def make(self, item: Item, cues: Cues, rng: Rng):
        return [Variant("loud", (item.answers[0], item.answers[1].upper()), cued=1)]


def test_a_probe_of_one_s_own():
    (profile,) = analyze(audit(simulated(), made_items(30, sets=("alignment",)), [Shouting()]))
    (cell,) = profile.cells
    assert (cell.probe, cell.condition, cell.n) == ("shouting", "loud", 30)


def test_rewrites_take_the_place_of_older_ones():
    item = Item("a", "Q", ("x", "y"), rewrites=(Rewrite("authority", "book, worse", 1, "old"),))
    new = item.adding([Rewrite("authority", "book, worse", 1, "new")])
    assert [one.text for one in new.rewrites] == ["new"]
    assert replace(new, rewrites=()) == replace(item, rewrites=())
