"""The command line: words -> method and verb -> settings -> run -> exit code.

Exit codes: 0 done, 1 the work failed, 2 the request was wrong, 3 a replication ran and a required claim did not hold.
Results go to stdout, progress and messages to stderr. Only the chosen verb's code is imported.
"""

from __future__ import annotations

import inspect
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gnomon import __version__, commands, registry
from gnomon.errors import BadConfig, UserError, nearest
from gnomon.verbs import DONE, WRONG, parse, run_verb

COMMANDS: Mapping[str, type[commands.Command]] = {
    "list": commands.List,
    "show": commands.Show,
    "doctor": commands.Doctor,
    "models": commands.Models,
    "mini": commands.Minis,
    "view": commands.View,
    "sim": commands.Sim,
}
"""Commands that belong to no method."""


def main(words: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        return _dispatch(list(words))
    except UserError as error:
        print(f"gnomon: {error}", file=sys.stderr)
        return error.exit_code
    except SystemExit as stop:  # the parser has spoken: help was asked for, or a word did not fit
        return stop.code if isinstance(stop.code, int) else WRONG
    except KeyboardInterrupt:
        print("gnomon: interrupted. Repeat the command to continue.", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of stdout has gone, as in `gnomon list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return DONE
    if words[0] == "--version":
        print(f"gnomon {__version__}")
        return DONE
    name, rest = words[0], words[1:]
    if name in COMMANDS:
        command = parse(COMMANDS[name], rest, prog=f"gnomon {name}")
        return command.run()
    slugs = [m.slug for m in registry.METHODS]
    if name not in slugs:
        raise BadConfig(f'There is no command or method "{name}". {nearest(name, [*COMMANDS, *slugs])}')
    method = registry.method(name)
    if not rest or rest[0] in ("-h", "--help"):
        return commands.Show(method=name).run()
    return run_verb(method, registry.verb(method, rest[0]), rest[1:])


def _usage() -> str:
    lines = [
        "gnomon: twenty published methods for language and vision-language models, on your own model and data",
        "",
        "  gnomon METHOD VERB [INPUT] [--options]   run one verb of one method",
        "  gnomon METHOD mini                       the method's miniature replication, with its baselines",
    ]
    lines += [f"  gnomon {name:34}{_first_line(command)}" for name, command in COMMANDS.items()]
    works = ", ".join(m.slug for m in registry.METHODS if m.verbs)
    return "\n".join([*lines, "", f"Methods that work today: {works}. Add --help to any command."])


def _first_line(thing: Callable[..., Any]) -> str:
    return (inspect.getdoc(thing) or "").splitlines()[0]
