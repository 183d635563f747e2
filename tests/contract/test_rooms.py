"""The house rules, checked for every room that works. A new room joins by its line in the registry."""

import dataclasses
import inspect
import itertools
import json
import os
import sys
import textwrap
import typing
from pathlib import Path

import pytest

import fixtures_process
from gnomon import cli, registry, verbs
from gnomon.core.claims import Claim
from gnomon.core.config import RunOptions, to_plain, tokens
from gnomon.errors import UserError
from gnomon.lazy import resolve

ROOT = Path(__file__).resolve().parents[2]
ROOMS = [m for m in registry.METHODS if m.verbs]
VERBS = [pytest.param(m, v, id=f"{m.slug} {v}") for m in ROOMS for v in m.verbs.split()]


def settings_classes(kind):
    """A settings class and the dataclasses nested in it."""
    yield kind
    for hint in typing.get_type_hints(kind).values():
        if dataclasses.is_dataclass(hint):
            yield from settings_classes(hint)


def documented(kind):
    """Names of the fields below which a string stands, own and inherited."""
    import ast

    found = set()
    for owner in inspect.getmro(kind):
        if not dataclasses.is_dataclass(owner):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0].body
        for field, below in itertools.pairwise(body):
            is_text = isinstance(below, ast.Expr) and isinstance(getattr(below.value, "value", None), str)
            if isinstance(field, ast.AnnAssign) and is_text:
                found.add(field.target.id)
    return found


def some(kind):
    """An instance with made-up values for the fields that have no default."""
    hints = typing.get_type_hints(kind)
    required = {f.name: 7 if hints[f.name] is int else "x" for f in dataclasses.fields(kind)
                if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING}  # fmt: skip
    if {"model", "llm"} <= {f.name for f in dataclasses.fields(kind)} and "model" not in required:
        required["model"] = "x"
    return kind(**required)


def test_the_table():
    assert len(registry.METHODS) == 20
    assert len({m.slug for m in registry.METHODS}) == len({m.paper for m in registry.METHODS}) == 20
    assert {m.family for m in registry.METHODS} == set(registry.FAMILIES)


@pytest.mark.parametrize(("method", "verb"), VERBS)
class TestVerb:
    def test_settings_are_frozen_documented_and_have_a_summary(self, method, verb):
        kind = resolve(method.config(verb))
        assert inspect.getdoc(kind).splitlines()[0].endswith(".")
        for part in [*settings_classes(kind), RunOptions]:
            assert part.__dataclass_params__.frozen
            missing = {f.name for f in dataclasses.fields(part)} - documented(part)
            assert not missing, f"{part.__name__}: no documentation below {missing}"

    def test_settings_survive_the_command_line(self, method, verb):
        kind = resolve(method.config(verb))
        made = some(kind)
        words = tokens(to_plain(made), verbs._positional(kind))
        parsed, options = verbs.parse_verb(method, verb, words)
        assert parsed == made
        assert options == RunOptions()

    def test_settings_survive_a_file_and_words_win(self, method, verb, tmp_path):
        import yaml

        kind = resolve(method.config(verb))
        made = some(kind)
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump({"seed": 3, **to_plain(made)}))
        parsed, options = verbs.parse_verb(method, verb, ["--config", str(file), "--seed", "4"])
        assert parsed == made
        assert options.seed == 4

    def test_a_misspelt_setting_in_a_file_is_told(self, method, verb, tmp_path):
        file = tmp_path / "config.yaml"
        file.write_text("seeed: 3\n")
        with pytest.raises(UserError, match=r'there is no setting "seeed"\. Did you mean "seed'):
            verbs.parse_verb(method, verb, ["--config", str(file)])

    def test_missing_and_unknown_words_are_the_request_s_fault(self, method, verb, capsys):
        kind = resolve(method.config(verb))
        words = tokens(to_plain(some(kind)), verbs._positional(kind))
        assert cli.main([method.slug, verb, *words, "--no-such-option", "1"]) == cli.WRONG
        assert "no-such-option" in capsys.readouterr().err

    def test_the_function_exists(self, method, verb):
        function = resolve(method.function(verb))
        assert list(inspect.signature(function).parameters) == ["cfg", "run"]
        assert inspect.getdoc(function)


@pytest.mark.parametrize("method", ROOMS, ids=lambda m: m.slug)
class TestRoom:
    def test_readme_names_the_paper_and_a_command(self, method):
        readme = (
            ROOT / "src" / "gnomon" / "methods" / method.slug.replace("-", "_") / "README.md"
        ).read_text("utf-8")
        assert method.paper in readme
        assert f"gnomon {method.slug} " in readme
        for verb in method.verbs.split():
            assert f"{method.slug} {verb}" in readme or f"`{verb}`" in readme, verb

    def test_claims(self, method):
        claims = resolve(f"{method.package}.config:CLAIMS")
        assert claims
        assert all(isinstance(claim, Claim) for claim in claims)
        assert any(claim.required for claim in claims)

    def test_public_names_resolve(self, method):
        package = resolve(f"{method.package}:__name__")
        assert package
        module = sys.modules[method.package]
        for name in dir(module):
            assert not inspect.ismodule(getattr(module, name)), f"{name} is shadowed by a module of that name"

    def test_mini_smoke_runs_repeats_and_dry_run_spends_nothing(self, method, tmp_path, monkeypatch, capsys):
        """A dry run and a run in this process, and the same run in a fresh one, whose strings hash otherwise."""
        monkeypatch.chdir(tmp_path)
        words = [method.slug, "mini", "--scale", "smoke", "--seeds", "1", "--json"]

        def here(*more):
            status = cli.main([*words, *more])
            out, err = capsys.readouterr()
            assert status == 0, err
            return json.loads(out)

        assert here("--dry-run")["plan"]
        assert not list(tmp_path.iterdir())
        assert here("--out", "a")["status"] == "done"
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
        command = [sys.executable, "-m", "gnomon", *words, "--out", "b"]
        done = fixtures_process.run(command, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["status"] == "done"
        reports = [json.loads((tmp_path / folder / "report.json").read_text()) for folder in ("a", "b")]
        for name in ("figures", "tables", "verdicts"):
            assert reports[0][name] == reports[1][name], f"the same seed gave another {name}"

    test_mini_smoke_runs_repeats_and_dry_run_spends_nothing = pytest.mark.slow(
        test_mini_smoke_runs_repeats_and_dry_run_spends_nothing
    )


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("lintseq train", ["data.jsonl"]),
        ("elm baseline", ["--forget", "f", "--retain", "r"]),
        ("neutral-residues train", ["--new", "n", "--original", "o", "--method", "full"]),
        ("neutral-residues sweep", ["--new", "n", "--original", "o"]),
    ],
)
def test_weights_in_few_bits_are_not_trained_themselves(verb, words, capsys):
    name, verb = verb.split()
    more = ["--model", "m", "--quantize", "bnb-4bit", "--dry-run"]
    assert cli.main([name, verb, *words, *more]) == 2
    assert "quantize must be none where the model's own weights are trained" in capsys.readouterr().err
