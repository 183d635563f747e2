"""A simulator as a language model: it gets the strings that a real endpoint would get, and nothing else.

Whatever it knows is written in the text. Its noise is a function of the request's text and draw: the same request and draw give
the same answer in any process, another draw an independent one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import random
import re
import time
from collections import Counter
from typing import Any, Protocol, get_type_hints
from urllib.parse import parse_qsl, quote

from gnomon.core.config import fingerprint
from gnomon.core.llm.base import Reply, Request, Usage
from gnomon.core.llm.endpoint.client import until_stop
from gnomon.core.llm.sims.faults import Faults
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, nearest
from gnomon.lazy import resolve
from gnomon.registry import SIMULATORS

_TOKEN = re.compile(r"\s*\S+|\s+$")


class Simulator(Protocol):
    """What a room that judges by a simulated character defines: a frozen dataclass whose fields are its planted truths."""

    def answer(self, request: Request, noise: random.Random) -> str:
        """The answer to a request; every random choice is drawn from `noise`."""
        ...


class Simulated:
    """`simulator` in a world with `faults`. A token is a word with the space before it.

    Args:
        simulator: answers.
        name: the reference, with every parameter.
        faults: what goes wrong.
    """

    is_simulated = True

    def __init__(self, simulator: Simulator, name: str, faults: Faults | None = None):
        self.simulator, self.name, self.faults = simulator, name, faults or Faults()
        self._attempts: Counter[str] = Counter()

    async def acomplete(self, request: Request) -> Reply:
        """The simulated reply."""
        began = time.monotonic()
        messages = [(m.role, m.content, *(part.digest for part in m.images)) for m in request.messages]
        key = fingerprint(messages, request.sampling_seed or 0, length=32)
        rng = Rng(0).child("simulator", key)
        attempt, self._attempts[key] = self._attempts[key], self._attempts[key] + 1
        fault = self.faults.of_server(rng.child("server", attempt).python())
        if fault is not None:
            return fault
        del self._attempts[key]  # answered: asked again, the world is as it was
        if wait_s := self.faults.wait_s(rng.child("wait").python()):
            await asyncio.sleep(wait_s)
        whole = self.simulator.answer(request, rng.child("answer").python())
        text, finish = self.faults.of_answer(whole, rng.child("faults").python())
        tokens = _TOKEN.findall(text)
        if len(tokens) > request.max_tokens:
            tokens, finish = tokens[: request.max_tokens], "length"
        text = "".join(tokens)
        if (stopped := until_stop(text, request.stop)) != text:
            text, finish = stopped, "stop"
        usage = Usage(sum(len(m.content.split()) for m in request.messages), len(tokens))
        return Reply(text, finish, usage, latency_s=time.monotonic() - began)


def open_simulator(ref: str) -> Simulated:
    """The simulator of `NAME?param=value&other=value`; values are written as in a URL, `%20` for a space.

    Raises:
        BadConfig: the name or a parameter is misspelt, or a value is out of range.

    >>> open_simulator("verdict?words=rain|snow&false_negatives=0.05").name
    'sim:verdict?words=rain%7Csnow&false_negatives=0.05'
    """
    name, _, query = ref.removeprefix("sim:").partition("?")
    if name not in SIMULATORS:
        raise BadConfig(f'There is no simulator "{name}". {nearest(name, SIMULATORS)}')
    kind = resolve(SIMULATORS[name])
    own, shared = get_type_hints(kind), get_type_hints(Faults)
    values: dict[str, Any] = {}
    for param, text in parse_qsl(query, keep_blank_values=True):
        if param not in own and param not in shared:
            raise BadConfig(
                f'Simulator "{name}" has no parameter "{param}". {nearest(param, [*own, *shared])}'
            )
        values[param] = _value(name, param, text, own.get(param) or shared[param])
    try:
        simulator = kind(**{param: value for param, value in values.items() if param in own})
        faults = Faults(
            **{param: value for param, value in values.items() if param in shared and param not in own}
        )
    except BadConfig as error:
        raise BadConfig(f'Simulator "{name}": {error}') from None
    except TypeError:
        needed = [f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING]
        raise BadConfig(
            f'Simulator "{name}" needs {", ".join(needed)}: write sim:{name}?{needed[0]}=...'
        ) from None
    return Simulated(simulator, _written(name, simulator, faults), faults)


def describe() -> str:
    """Every simulator with its parameters and their defaults, and the faults that all of them share."""
    lines = []
    for name, where in SIMULATORS.items():
        kind = resolve(where)
        lines += [f"{name}: {(inspect.getdoc(kind) or '').splitlines()[0]}", *_parameters(kind)]
    return "\n".join([*lines, "faults, of every simulator", *_parameters(Faults)])


def _parameters(kind: type) -> list[str]:
    fields = dataclasses.fields(kind)
    defaults = ["needed" if f.default is dataclasses.MISSING else f"default {f.default}" for f in fields]
    return [f"  {field.name:18} {text}" for field, text in zip(fields, defaults, strict=True)]


def _value(name: str, param: str, text: str, kind: type) -> Any:
    if kind is str:
        return text
    try:
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        return kind(text)
    except (ValueError, KeyError):
        raise BadConfig(f'Simulator "{name}": {param} must be a {kind.__name__}; got "{text}".') from None


def _written(name: str, simulator: Any, faults: Faults) -> str:
    """The reference with every parameter that is not at its default."""
    pairs = []
    for part in (simulator, faults):
        for field in dataclasses.fields(part):
            value = getattr(part, field.name)
            if value != field.default:
                pairs.append(f"{field.name}={quote(str(value), safe='')}")
    return f"sim:{name}" + (f"?{'&'.join(pairs)}" if pairs else "")
