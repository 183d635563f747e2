"""Settings: what every verb shares, checks with clear messages, and settings files.

A settings file is a saved command line: it is flattened to the same tokens a user would type and goes through the same parser.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import yaml
from tyro.conf import Positional, arg

from gnomon.core.plain import to_plain
from gnomon.errors import BadConfig, BadInput

__all__ = [
    "Encoder",
    "Positional",
    "RunOptions",
    "Short",
    "TextModel",
    "check",
    "differences",
    "fingerprint",
    "flatten",
    "loose_names",
    "narrow",
    "option",
    "read_settings",
    "ready_models",
    "tokens",
    "write_settings",
]

T = TypeVar("T")


def Short(flag: str) -> Any:
    """Marks a field that also has a short flag: `n: Annotated[int, Short("-n")]`."""
    return arg(aliases=(flag,))


@dataclass(frozen=True)
class Ready:
    """Marks a setting that names a model: one that every machine can have, for whoever named none."""

    ref: str


TextModel = Annotated[str, arg(metavar="MODEL"), Ready("embedded:smollm2")]
"""A model that reads or writes text."""

Encoder = Annotated[str, arg(metavar="MODEL"), Ready("embedded:minilm")]
"""An encoder of texts."""


def ready_models(settings: type) -> dict[str, str]:
    """Setting without a default that names a model -> a model that every machine can have.

    >>> @dataclass
    ... class Small:
    ...     model: TextModel
    ...     encoder: Encoder = ""
    >>> ready_models(Small)
    {'model': 'embedded:smollm2'}
    """
    hints = get_type_hints(settings, include_extras=True)
    return {
        field.name: mark.ref
        for field in fields(settings)
        if field.default is MISSING and field.default_factory is MISSING
        for mark in getattr(hints[field.name], "__metadata__", ())
        if isinstance(mark, Ready)
    }


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of every verb."""

    out: Path | None = None
    """Folder of this run. None: runs/METHOD/VERB-KEY, where KEY is a short hash of the settings and the seed."""
    seed: int = 0
    """Seed of every random choice in the run."""
    dry_run: bool = False
    """Show the resolved settings and the cost, then stop before anything is spent or written."""
    fresh: bool = False
    """Start over instead of continuing what the run folder holds."""
    quiet: bool = False
    """No progress and no messages; errors still appear."""
    json: bool = False
    """Print the result as one JSON object on stdout."""


def check(condition: bool, field: str, rule: str, got: object) -> None:
    """Raise the standard message for a value out of range.

    Raises:
        BadConfig: the condition is false; the message names the field, the rule and the value.

    >>> check(-1 > 0, "train.lr", "> 0", -1)
    Traceback (most recent call last):
    gnomon.errors.BadConfig: train.lr must be > 0; got -1.
    """
    if not condition:
        raise BadConfig(f"{field} must be {rule}; got {got!r}.")


def option(name: str) -> str:
    """A setting as it is typed: every message that advises one names it like this.

    >>> option("llm.budget_calls")
    '--llm.budget-calls'
    """
    return f"--{name.replace('_', '-')}"


def narrow(kind: type[T], settings: Any) -> T:
    """The settings of `kind` alone, out of larger ones that hold its fields or from a stored mapping.

    >>> @dataclass
    ... class Small:
    ...     a: int
    >>> narrow(Small, {"a": 1, "b": 2})
    Small(a=1)
    """
    values = settings if isinstance(settings, Mapping) else vars(settings)
    return kind(**{field.name: values[field.name] for field in fields(kind)})  # type: ignore[arg-type]


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as `{"train.lr": 0.001}`.

    >>> flatten({"train": {"lr": 1, "epochs": 2}, "k": [1, 5]})
    {'train.lr': 1, 'train.epochs': 2, 'k': [1, 5]}
    """
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def tokens(settings: Mapping[str, Any], positional: Sequence[str] = ()) -> list[str]:
    """The command-line words that say the same as `settings`; the positional ones come first.

    >>> tokens({"source": "a.jsonl", "dry_run": True, "train": {"lr": 0.1}}, positional=["source"])
    ['a.jsonl', '--dry-run', '--train.lr', '0.1']
    """
    flat = flatten(settings)
    words = [str(flat.pop(name)) for name in positional if name in flat]
    for name, value in flat.items():
        words += _flag(option(name).removeprefix("--"), value)
    return words


def _flag(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, bool):
        head, _, last = name.rpartition(".")
        dotted = f"{head}." if head else ""
        yield f"--{name}" if value else f"--{dotted}no-{last}"
        return
    yield f"--{name}"
    yield from map(str, value) if isinstance(value, (list, tuple)) else (str(value),)


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a YAML file.

    Raises:
        BadInput: the file is missing, is not YAML, or is not a mapping of names to values.
    """
    try:
        loaded = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}).") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise BadInput(
            f"{path}{line}: not a YAML settings file. Compare the config.yaml of a finished run."
        ) from None
    if not isinstance(loaded, dict):
        raise BadInput(f"{path}: settings are a mapping of names to values, such as 'seed: 0'.")
    return loaded


def write_settings(path: Path, settings: Mapping[str, Any], header: str) -> None:
    """Write settings as YAML below a comment line that says how to use the file."""
    body = yaml.safe_dump(to_plain(settings), sort_keys=False, allow_unicode=True)
    path.write_text(f"{header}\n{body}", "utf-8")


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What changed between two settings, as `["train.lr: 0.1 -> 0.2"]`."""
    before, after = flatten(old), flatten(new)
    names = sorted(before.keys() | after.keys())
    return [f"{n}: {before.get(n)} -> {after.get(n)}" for n in names if before.get(n) != after.get(n)]


def loose_names(kind: type, prefix: str = "", *, mark: str = "LOOSE") -> set[str]:
    """Settings that say how work is done and not what comes out: a run may be continued with others.

    A settings class names them in its class variable `LOOSE`; `("*",)` means all of its fields, and `"gen.n"` one of a nested
    class. Those in its `GROWS` say how much of the same work is done, such as a budget or a number of items: with others a run goes
    on, a finished one too.

    Args:
        kind: a settings class.
        prefix: of the names, for nested classes.
        mark: `LOOSE` or `GROWS`.
    """
    hints = get_type_hints(kind)
    own = {name for base in kind.__mro__ for name in vars(base).get(mark, ())}  # those of its bases too
    names: set[str] = set()
    for field in fields(kind):
        if is_dataclass(hint := hints[field.name]):
            names |= {f"{prefix}{name}" for name in own if name.startswith(f"{field.name}.")}
            names |= loose_names(hint, f"{prefix}{field.name}.", mark=mark)  # type: ignore[arg-type]
        elif field.name in own or "*" in own:
            names.add(f"{prefix}{field.name}")
    return names


def fingerprint(*parts: Any, length: int = 8) -> str:
    """A short hash of plain values, the same in every process."""
    text = json.dumps(to_plain(parts), sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()[:length]
