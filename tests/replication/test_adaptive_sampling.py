"""adaptive-sampling in miniature at its smallest size: every claim of the study has a number, and the oracle bounds every arm."""

import json

import pytest

from gnomon import cli

pytestmark = [pytest.mark.replication, pytest.mark.slow]


def test_every_arm_is_measured_and_none_is_above_the_oracle(tmp_path):
    words = [
        "--scale",
        "smoke",
        "--seeds",
        "1",
        "--seed",
        "10",
        "--parts",
        "method",
        "chain",
        "--out",
        str(tmp_path / "mini"),
    ]
    assert cli.main(["adaptive-sampling", "mini", *words, "--quiet"]) == 0
    summary = json.loads((tmp_path / "mini" / "summary.json").read_text())
    arms = {row["arm"]: row["accuracy"] for row in summary["arms"]}
    assert arms["oracle of 4"] >= max(v for k, v in arms.items() if k not in ("greedy", "one sample"))
    assert {row["evaluator"] for row in summary["evaluators"]} == {
        "token, soft",
        "reserved, soft",
        "text, soft",
        "token, pair",
    }
    # An answer has eight tokens at most; a policy of twelve steps may end earlier.
    for row in summary["adaptive"]:
        assert 1 <= row["mean_samples"] <= 4 and 0 < row["tokens"] <= 8 * row["mean_samples"] + 1e-9
    spent = [row["mean_samples"] for row in summary["adaptive"]]
    assert spent == sorted(spent)  # a higher gamma draws no fewer samples
    assert summary["chain"][0]["one sample"] >= 0
