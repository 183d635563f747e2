"""The verbs as a user types them."""

import json

import pytest

from gnomon.core import records
from gnomon.core.models import load_model, load_scorer, new_llama, train_bpe
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, UserError
from gnomon.registry import method
from gnomon.verbs import run_verb

ROOM = method("ma-rlhf")
FAST = [
    "--train.batch-size",
    4,
    "--train.max-steps",
    2,
    "--train.max-length",
    40,
    "--train.lr",
    1e-3,
    "--device",
    "cpu",
]
PPO = [*FAST, "--ppo.gen.max-new-tokens", 8, "--train.warmup-steps", 0, "--train.epochs", 9]
RULE = "def letters(prompts, completions, gold=None):\n    return [sum(c.isalpha() for c in t) / 4 for t in completions]\n"

JUDGE = r"""
import re
def judge(request):
    shown = re.search(r"\[Answer A\]\n(.*)\n\n\[Answer B\]\n(.*)\n\nBetter", request.messages[-1].content, re.S)
    a, b = map(len, shown.groups())
    return "A" if a > b else "B" if b > a else "TIE"
"""


def ma(verb, *words):
    return run_verb(ROOM, verb, [*map(str, words), "--quiet"])


def report(folder):
    return json.loads((folder / "report.json").read_text())


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    words = train_bpe(["say hello"] * 3, 262)
    new_llama(words, 16, 1, 2, 64, Rng(0), intermediate=32).save_pretrained(folder / "model")
    words.save_pretrained(folder / "model")
    records.write(folder / "sft.jsonl", [{"prompt": f"say {i}", "completion": " hello"} for i in range(8)])
    records.write(
        folder / "pairs.jsonl",
        [{"prompt": f"say {i}", "chosen": " hello", "rejected": " no"} for i in range(8)],
    )
    records.write(
        folder / "tasks.jsonl",
        [{"prompt": f"say {i}", "gold": "x"} for i in range(5)] + [{"prompt": ""}, {"prompt": "say " * 30}],
    )
    (folder / "rule.py").write_text(RULE)
    return folder


def test_three_stages_each_from_the_one_before(world):
    """SFT with an adapter, a reward model from it, PPO with both; then the policy is measured against where it began."""
    assert (
        ma(
            "sft",
            world / "sft.jsonl",
            "--model",
            world / "model",
            *FAST,
            "--train.lora-rank",
            2,
            "--out",
            world / "1",
        )
        == 0
    )
    assert (
        ma(
            "reward",
            world / "pairs.jsonl",
            "--model",
            world / "1",
            *FAST,
            "--train.eval-share",
            0.25,
            "--out",
            world / "2",
        )
        == 0
    )
    assert load_scorer(world / "2" / "model", device="cpu").config.num_labels == 1
    assert "shorter is better" in json.loads((world / "2" / "summary.json").read_text())
    code = ma(
        "train",
        world / "tasks.jsonl",
        "--model",
        world / "1",
        "--reward",
        f"scorer:{world}/2",
        *PPO,
        "--matched",
        "--out",
        world / "3",
    )
    assert code == 1  # two of seven tasks cannot be used, more than a fifth: results are kept
    summary = json.loads((world / "3" / "summary.json").read_text())
    assert summary["updates"] == 2 and "horizon of credit" in summary["control"]
    rows = [json.loads(line) for line in (world / "3" / "metrics.jsonl").read_text().splitlines()]
    first = next(row for row in rows if "reward" in row)
    assert (
        first["log_ratio"] == 0
        and {"kl", "clip_share", "explained_variance", "distinct", "rollout_gap", "fallbacks"} <= first.keys()
    )
    assert any("tokens_per_s" in row for row in rows)
    reasons = [
        json.loads(line)["reason"] for line in (world / "3" / "rejected.jsonl").read_text().splitlines()
    ]
    assert "empty" in reasons[0] and "leave room" in reasons[1]
    assert (world / "3" / "answers" / "000001.json").exists() and "never negative" in (
        world / "3" / "report.html"
    ).read_text()
    policy = load_model(world / "3" / "model", device="cpu")
    assert list(policy.peft_config) == ["default"]
    assert ma("eval", world / "sft.jsonl", "--model", world / "3", "--reward", f"rule:{world}/rule.py:letters",
              "--against", world / "1",
              "--gen.max-new-tokens", 8, "--gen.n", 2, "--device", "cpu", "--out", world / "4") == 0  # fmt: skip
    measured = json.loads((world / "4" / "summary.json").read_text())
    assert sum(measured["wins"].values()) == pytest.approx(1) and measured["models"][0]["kl"] >= 0
    assert measured["models"][0]["best of 2"] >= measured["models"][0]["reward"]


def test_a_judge_is_a_reward_and_decides_wins(world, tmp_path):
    """One that likes the longer answer; each answer is compared with the other one to its prompt."""
    (tmp_path / "judge.py").write_text(JUDGE)
    tasks = tmp_path / "tasks.jsonl"
    records.write(tasks, [{"prompt": f"say {i}"} for i in range(4)])
    judge = f"script:{tmp_path}/judge.py:judge"
    assert (
        ma(
            "train",
            tasks,
            "--model",
            world / "model",
            "--reward",
            f"judge:{judge}",
            *PPO,
            "--ppo.gen.n",
            2,
            "--out",
            tmp_path / "run",
        )
        == 0
    )
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert next(row for row in rows if "reward" in row)["reward"] == pytest.approx(
        0.5
    )  # of two answers one wins
    assert ma("eval", tasks, "--model", world / "model", "--against", world / "model", "--reward", f"rule:{world}/rule.py:letters",
              "--judge", judge, "--gen.max-new-tokens", 8, "--device", "cpu", "--out", tmp_path / "eval") == 0  # fmt: skip
    wins = json.loads((tmp_path / "eval" / "summary.json").read_text())["wins"]
    assert wins == {
        "win": 0.0,
        "tie": 1.0,
        "loss": 0.0,
        "prompts judged": 4,
    }  # the same model with the same streams


def test_segment_shows_how_each_rule_cuts_ones_own_text(world, tmp_path):
    text = "She saw a bird, and it sang. x = f(1)"
    assert (
        ma(
            "segment",
            text,
            "--model",
            world / "model",
            "--prompt",
            "say",
            "--device",
            "cpu",
            "--out",
            tmp_path / "run",
        )
        == 0
    )
    rows = {
        row["rule"]: row
        for row in map(json.loads, (tmp_path / "run" / "segments.jsonl").read_text().splitlines())
    }
    assert set(rows) == {"fixed", "randomized", "perplexity", "surprise", "code", "chunks"}
    assert all(
        row["cut"].replace("|", "") == text and len(row["actions"]) == len(row["sizes"])
        for row in rows.values()
    )
    assert rows["chunks"]["cut"].startswith("She saw |a bird, |and it sang.") and rows["code"]["fell_back"]
    assert "macro actions" in (tmp_path / "run" / "report.html").read_text()


def test_dry_runs_cost_nothing_and_say_what_would(world, tmp_path, capsys):
    words = [
        world / "tasks.jsonl",
        "--model",
        world / "model",
        "--reward",
        f"rule:{world}/rule.py:letters",
        *PPO,
        "--dry-run",
        "--json",
    ]
    assert ma("train", *words, "--out", tmp_path / "run") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["plan"]["updates"] == 2 and shown["plan"]["tasks"] == 5
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--macro.rule", "fxied"], "macro.rule"), (["--macro.n", 0], "macro.n"), (["--ppo.on-cut", "never"], "ppo.on_cut"),
     (["--matched", "--macro.n", 1], "matched"), (["--ppo.gen.temperature", 0], "ppo.gen.temperature"),
     (["--ppo.gen.n", 3], "ppo.gen.n"), (["--ppo.gen.max-new-tokens", 80], "train.max_length")],
)  # fmt: skip
def test_settings_that_make_no_sense_name_the_field(world, tmp_path, words, message):
    base = [
        "--model",
        world / "model",
        "--reward",
        f"rule:{world}/rule.py:letters",
        *PPO,
        "--out",
        tmp_path / "run",
    ]
    with pytest.raises(BadConfig, match=message):
        ma("train", world / "tasks.jsonl", *base, *words)


def test_rewards_that_cannot_be_opened(world, tmp_path):
    base = [world / "tasks.jsonl", "--model", world / "model", *PPO]
    for number, (reward, message) in enumerate(
        [
            ("rwle:x", "There is no reward"),
            (f"scorer:{world}/model", "no head"),
            (f"rule:{world}/rule.py:lettres", "letters"),
        ]
    ):
        with pytest.raises(UserError, match=message):
            ma("train", *base, "--reward", reward, "--out", tmp_path / str(number))


def test_the_real_run_on_stories(shared_data, tmp_path):
    assert (
        ma(
            "real",
            shared_data / "models" / "stories260K",
            "--scale",
            "smoke",
            "--seeds",
            1,
            "--out",
            tmp_path / "run",
        )
        == 0
    )
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert {row["arm"] for row in summary["arms"]} == {"n=1", "n=5", "matched", "chunks"}
    assert all(row["rollout_gap"] < 1e-3 for row in summary["arms"])
