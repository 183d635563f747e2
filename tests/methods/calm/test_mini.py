"""The miniature's claims: none may vanish because its metric is written in another way."""

import json
from dataclasses import replace

import pytest

from gnomon import cli, verbs
from gnomon.methods.calm.mini import study as miniature

pytestmark = pytest.mark.slow

MISSPELT = {"smallest coverage": "smallest coverge", "self bonus": "selfbonus"}


def misspell(claims):
    """The claims, two of them with a metric that nothing measures."""
    changed = []
    for claim in claims:
        metric, _, rest = claim.compare.partition(":")
        changed.append(replace(claim, compare=f"{MISSPELT.get(metric, metric)}:{rest}"))
    return tuple(changed)


def test_a_misspelt_metric_is_an_error_and_not_a_shorter_table(tmp_path, monkeypatch, capsys):
    claims = misspell(miniature.STUDY.claims)
    monkeypatch.setattr(miniature, "STUDY", replace(miniature.STUDY, claims=claims))
    words = ["--scale", "smoke", "--seeds", "1", "--parts", "planted", "--out", str(tmp_path / "run")]
    assert cli.main(["calm", "mini", *words]) == verbs.FAILED
    message = capsys.readouterr().err
    assert 'part "planted"' in message
    assert '"smallest coverge: planted judges >= 0.92"' in message
    assert 'Did you mean "smallest coverage"?' in message
    assert "selfbonus" in message and 'Did you mean "self bonus"?' in message
    assert not (tmp_path / "run" / "summary.json").exists()


def test_claims_of_parts_that_were_not_run_are_left_out_and_said(tmp_path, capsys):
    words = ["--scale", "smoke", "--seeds", "1", "--parts", "claims", "--out", str(tmp_path / "run")]
    assert cli.main(["calm", "mini", *words]) == cli.DONE
    assert "planted (6 claims), trained (4 claims)" in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["verdicts"] == []
