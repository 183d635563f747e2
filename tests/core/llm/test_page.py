"""What the page on language models promises is run here, and what must stay light is."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "llm.md").read_text("utf-8")


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": str(ROOT / "src")},
    )


def test_the_example_runs():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    done = run(code)
    assert done.stdout.splitlines() == ["['PASS', 'FAIL', 'PASS']", "2 asked, 1 known already"], done.stderr


def test_every_kind_of_reference_is_on_the_page():
    from gnomon.core.llm.references import FORMS

    assert not [scheme for scheme in FORMS if f"`{scheme}:" not in PAGE]


def test_settings_and_simulators_load_nothing_heavy():
    heavy = ["torch", "transformers", "sklearn", "openai", "numpy"]
    done = run(
        "import sys\n"
        "from gnomon.core.llm import LLMConfig, ask, complete, connect\n"
        "assert complete(connect('sim:verdict?words=a', LLMConfig()), [ask('<text>a</text>')])[0].text\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    assert done.stdout.strip() == "[]", done.stderr
