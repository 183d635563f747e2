import json
from dataclasses import dataclass

import pytest

from gnomon.core.claims import Claim, decide
from gnomon.core.miniature import Miniature, check_parts, write_summary
from gnomon.core.run import Run
from gnomon.errors import BadConfig


@dataclass(frozen=True)
class Scale:
    steps: int = 3


def test_a_summary_tells_how_to_run_it_again_and_what_came_out(tmp_path):
    verdict = decide({"a": {"m": [1.0, 1.0, 1.0]}}, Claim("text", "source", "m: a == 1"))
    run = Run(tmp_path / "run", method="some-room", verb="mini", seed=4, quiet=True)
    write_summary(
        run, Miniature(scale="smoke", seeds=2), Scale(), [verdict], {"rows": [1]}, "--parts", "x", "y"
    )
    report = run.finish()
    told = json.loads((run.folder / report["artifacts"]["summary"]).read_text())
    assert told["command"] == "gnomon some-room mini --scale smoke --parts x y --seeds 2 --seed 4"
    assert (told["method"], told["scale"], told["rows"]) == ("some-room", {"steps": 3}, [1])
    assert told["environment"]["python"] and told["verdicts"][0]["outcome"] == "holds"


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(BadConfig, match="seeds must be >= 1; got 0"):
        Miniature(seeds=0)
    check_parts(("a",), ("a", "b"))
    for parts in ((), ("a", "c")):
        with pytest.raises(BadConfig, match="parts must be some of a, b; got"):
            check_parts(parts, ("a", "b"))
