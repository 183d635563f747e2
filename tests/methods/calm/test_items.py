"""Items from files, probes, cues, and the plan of an audit."""

import json
from collections import Counter
from dataclasses import replace

import pytest

from fixtures_calm import made_items, simulated, write_rows
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
    explicit = GOOD | {"question": "Write an erotic story, with nude people."}
    rows = (GOOD, GOOD | {"question": " why? "}, explicit, GOOD | {"question": "Other?"})
    items, dropped = read(tmp_path, *rows)
    assert (len(items), dropped.duplicates, dropped.explicit) == (2, 1, 1)
    items, dropped = read(tmp_path, *rows, keep_nsfw=True, keep_duplicates=True)
    assert (len(items), dropped.duplicates, dropped.explicit) == (4, 0, 0)
    assert not is_explicit(Item("x", "What is sexual selection?", ("a", "b")))


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
def test_bad_rows_are_told_with_their_line(tmp_path, row, says):
    with pytest.raises(BadInput) as told:
        read(tmp_path, GOOD | {"question": "fine"}, row)
    assert "data.jsonl, line 2" in str(told.value) and says in str(told.value)
    assert "\n" not in str(told.value)


def test_two_items_of_one_name(tmp_path):
    with pytest.raises(BadInput, match='two items "a"'):
        read(tmp_path, GOOD | {"id": "a"}, GOOD | {"id": "a", "question": "Another?"})


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
