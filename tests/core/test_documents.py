"""What the documents promise is run or checked here."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_example_in_the_readme_runs():
    text = (ROOT / "README.md").read_text("utf-8")
    (code,) = re.findall(r"<!-- example:begin.*?-->\n```python\n(.*?)```", text, re.DOTALL)
    assert len(code.splitlines()) <= 30
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                          env={"PYTHONPATH": str(ROOT / "src")})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "every state clean: True" in done.stdout


PAGES = sorted(path for part in ("*.md", "docs/**/*.md", "src/**/*.md") for path in ROOT.glob(part))


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text("utf-8")):
        assert (path.parent / target).exists(), f"{path}: {target}"


def test_no_file_names_a_place_on_the_machine_it_was_written_on():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    words = ("/" + "work/", "/" + "root/")
    for name in listed.stdout.split():
        path = ROOT / name
        if path.is_file() and path.suffix in (".py", ".md", ".toml", ".json", ".sh", ".txt", ".yaml", ""):
            text = path.read_text("utf-8")
            assert not [word for word in words if word in text], name


def test_the_tour_names_only_verbs_that_exist():
    from gnomon.registry import METHODS

    text = (ROOT / "examples" / "tour.sh").read_text("utf-8")
    verbs = {m.slug: m.verbs.split() for m in METHODS}
    found = re.findall(r"^\s*gnomon ([a-z-]+) ([a-z]+) ", text, re.MULTILINE)
    assert found
    assert all(verb in verbs[slug] for slug, verb in found)
