import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from types import ModuleType

import pytest

from gnomon import cli, registry, verbs
from gnomon.core.claims import Claim, decide
from gnomon.core.rng import Rng
from gnomon.core.run import Run, Start
from gnomon.core.study import Miniature, Part, Study, _write_summary, check_parts, means
from gnomon.errors import BadConfig, UserError


@dataclass(frozen=True)
class Scale:
    steps: int = 3
    device: str = "cpu"


@dataclass(frozen=True, kw_only=True)
class Settings(Miniature):
    """The miniature of a room that is not there."""

    parts: tuple[str, ...] = ("toys", "chains")
    """Which parts to run."""


def claim(compare="accuracy: toys >= 0.5", part="toys", **rest):
    return Claim("It is so.", "table 1", compare, part=part, **rest)


def toys(scale, seed, part, out):
    out.score("toys", "accuracy", 0.8 + seed / 100)
    out.score("toys", "loss", 1.0)
    out.add("toys", {"arm": "toys", "accuracy": 0.8 + seed / 100})
    out.show("first", seed)


def chains(scale, seed, part, out):
    out.score("chains", "per chain", [1.0, 2.0])


def study(*claims, page=lambda page, results: None, **changes):
    settings = {
        "title": "room in miniature",
        "claims": claims,
        "scales": dict.fromkeys(("smoke", "mini"), Scale()),
        "parts": {"toys": Part(toys), "chains": Part(chains)},
        "plan": lambda cfg, scale: {"steps": scale.steps * cfg.seeds},
        "page": page,
        "summary": lambda results: {"rows": results.rows, "scores": results.scores()},
    }
    return Study(**(settings | changes))


def run_study(declared, folder, *, seed=0, **settings):
    """Run a study; the content of its summary."""
    run = Run(folder / "run", method="some-room", verb="mini", seed=seed, quiet=True)
    try:
        declared.run(Settings(**settings), run)
        run.finish()
    finally:
        run.close()
    return json.loads((run.folder / "summary.json").read_text())


# Settings and summary


def test_a_summary_says_how_to_run_it_again_and_what_came_out(tmp_path):
    verdict = decide({"a": {"m": [1.0, 1.0, 1.0]}}, Claim("text", "source", "m: a == 1"))
    run = Run(tmp_path / "run", method="some-room", verb="mini", seed=4, quiet=True)
    _write_summary(
        run, Miniature(scale="smoke", seeds=2), Scale(), [verdict], {"rows": [1]}, "--parts", "x", "y"
    )
    report = run.finish()
    summary = json.loads((run.folder / report["artifacts"]["summary"]).read_text())
    assert summary["command"] == "gnomon some-room mini --scale smoke --parts x y --seeds 2 --seed 4"
    assert (summary["method"], summary["scale"]["steps"], summary["rows"]) == ("some-room", 3, [1])
    assert summary["environment"]["python"] and summary["verdicts"][0]["outcome"] == "holds"


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(BadConfig, match="seeds must be >= 1; got 0"):
        Miniature(seeds=0)
    check_parts(("a",), ("a", "b"))
    for parts in ((), ("a", "c")):
        with pytest.raises(BadConfig, match="parts must be some of a, b; got"):
            check_parts(parts, ("a", "b"))


def test_a_study_scores_every_seed_and_shows_the_first(tmp_path):
    seen = {}
    summary = run_study(
        study(claim(), page=lambda page, results: seen.update(results.shown), options=("--full",)),
        tmp_path,
        seed=2,
    )
    assert summary["scores"]["toys"]["accuracy"] == pytest.approx([0.82, 0.83, 0.84])
    assert [row["seed"] for row in summary["rows"]["toys"]] == [2, 3, 4]
    assert [verdict["outcome"] for verdict in summary["verdicts"]] == ["holds"]
    words = "--scale mini --parts toys chains --full --seeds 3 --seed 2"
    assert summary["command"] == f"gnomon some-room mini {words}"
    assert (
        list(summary)[:4] == ["method", "command", "environment", "scale"] and list(summary)[-1] == "verdicts"
    )
    assert seen == {"first": 2}


def test_a_part_has_the_seed_s_folder_and_random_numbers(tmp_path):
    places = []

    def look(scale, seed, part, out):
        inner = part.within("arm")
        places.append((part.folder.name, part.rng, inner.folder.relative_to(part.folder.parent).as_posix()))
        assert inner.rng == Rng(2).child(f"seed-{seed}/arm")
        assert part.within("arm", Rng(7)).rng == Rng(7)

    run_study(study(parts={"toys": Part(look)}), tmp_path, seed=2, seeds=2)
    assert places == [("seed-2", Rng(2), "seed-2/arm"), ("seed-3", Rng(3), "seed-3/arm")]


def test_a_dry_run_runs_no_part(tmp_path):
    run = Run(tmp_path / "run", method="some-room", verb="mini", start=Start(dry=True))
    with pytest.raises(Exception, match="dry run") as shown:
        study().run(Settings(seeds=2), run)
    assert shown.value.plan == {"seeds": [0, 1], "steps": 6}


# No claim vanishes


@pytest.mark.parametrize("scale", ["smoke", "mini"])
def test_a_misspelt_metric_is_an_error_with_the_nearest_one(tmp_path, scale):
    with pytest.raises(UserError) as caught:
        run_study(study(claim("acuracy: toys >= 0.5"), claim("los: toys <= 2")), tmp_path, scale=scale)
    message = str(caught.value)
    assert 'Claim "acuracy: toys >= 0.5": part "toys" ran and left it without a number.' in message
    assert 'Did you mean "accuracy"?' in message
    assert '"los: toys <= 2"' in message and 'Did you mean "loss"?' in message


@pytest.mark.parametrize("compare", ["accuracy: toyz >= 0.5", "accuracy: toys >= toyz"])
def test_a_misspelt_arm_is_an_error_on_either_side(tmp_path, compare):
    with pytest.raises(UserError, match=r'no arm "toyz". Did you mean "toys"'):
        run_study(study(claim(compare)), tmp_path)


@pytest.mark.parametrize("value", [math.nan, math.inf, None, [1.0, math.nan], {"task": math.nan}, []])
def test_a_score_that_is_no_finite_number_is_an_error_after_its_seed(tmp_path, value):
    seeds = []

    def part(scale, seed, part, out):
        seeds.append(seed)
        out.score("toys", "accuracy", value if seed == 1 else 0.5)

    with pytest.raises(UserError, match=r'part "toys" ran.* as "accuracy" under 1'):
        run_study(study(claim(), parts={"toys": Part(part)}), tmp_path)
    assert seeds == [0, 1]  # the third is not paid for


def test_a_seed_without_a_score_is_an_error(tmp_path):
    def part(scale, seed, part, out):
        if seed != 1:
            out.score("toys", "accuracy", 0.5)

    with pytest.raises(UserError, match='no "accuracy" under seed 1'):
        run_study(study(claim(), parts={"toys": Part(part)}), tmp_path)


def test_an_undefined_number_passes_at_the_smallest_scale_alone(tmp_path):
    def part(scale, seed, part, out):
        out.undefine("toys", "accuracy", "no rival learned as much")

    declared = study(claim(), parts={"toys": Part(part)})
    assert run_study(declared, tmp_path, scale="smoke")["verdicts"] == []
    with pytest.raises(UserError, match="no rival learned as much"):
        run_study(declared, tmp_path / "mini")


def test_nan_without_a_claim_is_no_error(tmp_path):
    def part(scale, seed, part, out):
        out.score("toys", "accuracy", 0.5)
        out.score("toys", "odd", math.nan)

    summary = run_study(study(claim(), parts={"toys": Part(part)}), tmp_path)
    assert summary["scores"]["toys"]["odd"] == [None] * 3


def test_the_smallest_scale_gives_no_verdicts(tmp_path):
    assert run_study(study(claim()), tmp_path, scale="smoke")["verdicts"] == []


def test_claims_of_a_part_that_did_not_run_are_left_out_and_said(tmp_path, capsys):
    declared = study(claim(), claim("per chain: chains >= 1", "chains"))
    run = Run(tmp_path / "run", method="some-room", verb="mini")
    declared.run(Settings(parts=("toys",)), run)
    report = run.finish()
    assert [verdict["compare"] for verdict in report["verdicts"]] == ["accuracy: toys >= 0.5"]
    sentence = "Left out, since their parts were not run: chains (1 claim)."
    assert sentence in capsys.readouterr().err
    assert sentence in (run.folder / "report.html").read_text()


def test_a_part_that_does_not_run_at_a_scale_leaves_its_claims_out(tmp_path):
    parts = {"toys": Part(toys), "chains": Part(lambda *_: None, scales=("mini",))}
    declared = study(claim(), claim("per chain: chains >= 1", "chains"), parts=parts)
    run_study(declared, tmp_path, scale="smoke")
    with pytest.raises(UserError, match='part "chains" ran'):
        run_study(declared, tmp_path / "mini")


def test_a_claim_must_name_a_part_of_the_study():
    with pytest.raises(ValueError, match=r'part "toy". Did you mean "toys"'):
        study(claim(part="toy"))
    with pytest.raises(ValueError, match=r'part "". Known: chains, toys'):
        study(claim(part=""))
    study(claim(part=""), parts={"toys": Part(toys)})  # the only one


def test_a_claim_on_two_parts_needs_both_or_one():
    both, either = claim(part="toys and chains"), claim(part="toys or chains")
    assert not both.is_about(["toys"]) and both.is_about(["chains", "toys"])
    assert either.is_about(["toys"]) and not either.is_about(["others"])


def test_numbers_per_task_of_two_parts_are_decided_together(tmp_path):
    def off(scale, seed, part, out):
        out.score("chains", "per chain", [3.0])

    declared = study(
        claim("per chain: chains == 1.5", "toys or chains", margin=0.5),
        parts={"toys": Part(chains), "chains": Part(off)},
    )
    (verdict,) = run_study(declared, tmp_path)["verdicts"]
    assert verdict["outcome"] == "does not hold" and "3 of 9 values are off" in verdict["sentence"]


def test_scores_across_seeds_are_checked_like_others(tmp_path):
    declared = study(claim("median: toys == 0.81"), across=lambda results: {"toys": {"median": [0.81]}})
    (verdict,) = run_study(declared, tmp_path)["verdicts"]
    assert (verdict["outcome"], verdict["n_seeds"]) == ("holds", 1)
    declared = study(claim("median: toys == 0.81"), across=lambda results: {"toys": {"medan": [0.81]}})
    with pytest.raises(UserError, match='Did you mean "medan"'):
        run_study(declared, tmp_path / "again")


def test_a_part_that_runs_once_has_units_of_its_own(tmp_path):
    def worlds(scale, seed, part, out):
        assert part.folder.name == "toys" and part.rng == Rng(5)
        for world in range(4):
            out.score("toys", "accuracy", 0.9, unit=world)
            out.add("toys", {"world": world})

    summary = run_study(study(claim(), parts={"toys": Part(worlds, once=True)}), tmp_path, seed=5)
    assert summary["verdicts"][0]["n_seeds"] == 4
    assert summary["rows"]["toys"][0] == {"world": 0}


def test_an_arm_is_scored_once_per_seed(tmp_path):
    def twice(scale, seed, part, out):
        out.score("toys", "accuracy", 0.5)
        out.score("toys", "accuracy", 0.6)

    with pytest.raises(ValueError, match='"toys" has "accuracy" under 0 already'):
        run_study(study(parts={"toys": Part(twice)}), tmp_path)


# Exit code


@pytest.mark.parametrize(
    ("compare", "required", "code"),
    [
        ("accuracy: toys >= 0.5", True, cli.DONE),
        ("accuracy: toys >= 0.9", True, verbs.DOES_NOT_HOLD),
        ("accuracy: toys >= 0.9", False, cli.DONE),
        ("acuracy: toys >= 0.5", True, verbs.FAILED),
    ],
)
def test_exit_codes(tmp_path, monkeypatch, capsys, compare, required, code):
    declared = study(claim(compare, required=required))
    modules = {
        "": {},
        ".config": {"Mini": Settings},
        ".mini": {},
        ".mini.study": {"mini": lambda cfg, run: declared.run(cfg, run)},
    }
    for name, names in modules.items():
        module = ModuleType(f"gnomon.methods.some_room{name}")
        vars(module).update(names)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    method = registry.Method("some-room", "0000.00000", "train", "not there", verbs="mini")
    monkeypatch.setattr(registry, "METHODS", (*registry.METHODS, method))
    assert cli.main(["some-room", "mini", "--out", str(tmp_path / "run"), "--quiet"]) == code
    assert ("acuracy" in capsys.readouterr().err) == (code == verbs.FAILED)


# Means and resuming


def test_means_over_seeds_leave_out_what_is_no_number():
    rows = [
        {"seed": 0, "arm": "a", "lr": 1.0, "m": 1, "text": "x", "late": None},
        {"seed": 1, "arm": "a", "lr": 1.0, "m": 4, "text": "y", "late": 3.0},
        {"seed": 0, "arm": "a", "lr": 2.0, "m": math.nan, "text": "x"},
    ]
    assert means(rows, "arm", "lr") == [
        {"arm": "a", "lr": 1.0, "m": 2.5, "late": 3.0},
        {"arm": "a", "lr": 2.0},
    ]


CHILD = """
import sys, time
from pathlib import Path
from gnomon.core.claims import Claim
from gnomon.core.run import Run
from gnomon.core.study import Miniature, Part, Study
from dataclasses import dataclass

folder, hangs = Path(sys.argv[1]), sys.argv[2] == "hangs"

@dataclass(frozen=True)
class Scale:
    device: str = "cpu"

def part(scale, seed, part, out):
    for arm in ("first", "second"):
        def compute():
            if hangs and (seed, arm) == (1, "second"):
                (folder / "waiting").touch()
                time.sleep(600)
            with (folder / "computed").open("a") as file:
                file.write(f"{seed} {arm}\\n")
            return {"score": seed + part.rng.child(arm).python().random(), "undefined": float("nan")}
        value = out.once(f"{arm}/measured", compute)
        assert value["undefined"] is None
        out.score(arm, "m", value["score"])

study = Study(
    title="t", claims=[Claim("c", "s", "m: first >= 0")], scales={"mini": Scale()}, parts={"": Part(part)},
    plan=lambda cfg, scale: {}, page=lambda page, results: None, summary=lambda results: {"scores": results.scores()},
)
run = Run(folder / "run", method="some-room", verb="mini", quiet=True)
study.run(Miniature(), run)
run.finish()
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(tmp_path):
    def start(folder, how):
        folder.mkdir(exist_ok=True)
        return subprocess.Popen([sys.executable, "-c", CHILD, str(folder), how], stderr=subprocess.PIPE)

    child = start(tmp_path / "killed", "hangs")
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed" / "waiting").exists():
        assert child.poll() is None and time.monotonic() < deadline, child.stderr.read().decode()
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    for folder in ("killed", "whole"):
        child = start(tmp_path / folder, "goes on")
        assert child.wait(120) == 0, child.stderr.read().decode()
        child.stderr.close()
    units = [f"{seed} {arm}" for seed in range(3) for arm in ("first", "second")]
    for folder in ("killed", "whole"):  # each unit once, before the kill or after it
        assert (tmp_path / folder / "computed").read_text().splitlines() == units
    killed, whole = (
        json.loads((tmp_path / f / "run" / "summary.json").read_text()) for f in ("killed", "whole")
    )
    assert killed["scores"] == whole["scores"]
