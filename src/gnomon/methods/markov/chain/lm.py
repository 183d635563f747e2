"""A language model as the finite Markov chain it is: states, matrix, stationary distribution, one table over temperatures.

Everything the room reports of one chain, as a row of numbers.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array, save_npz

from gnomon.core.config import fingerprint
from gnomon.core.env import free_memory
from gnomon.core.files import write_json
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.markov.chain.chain import Chain, Floats
from gnomon.methods.markov.chain.equilibrium import Method, second_eigenvalue, stationary
from gnomon.methods.markov.chain.rates import (
    DENSE,
    Curve,
    Cycle,
    greedy_cycle,
    greedy_cycles,
    likely_states,
    log_epsilon,
    mass_on,
    measure,
    mixing_time,
    relaxation_time,
    violations,
)
from gnomon.methods.markov.chain.scores import Logits, Scorer, identity, score_callable, score_model
from gnomon.methods.markov.chain.states import LIMIT, StateSpace

# Everything the room reports of one chain, as a row of numbers.

log = logging.getLogger(__name__)

STARTS = 64
"""States that are followed where there are too many to follow all."""

CELLS = 2**24
"""Numbers in memory while states are followed, at most."""


@dataclass(frozen=True)
class Analysis:
    """Structure, stationary distribution and mixing of a chain at one temperature."""

    row: dict[str, Any]
    """Temperature, structure, eps, |lambda_2| and times; None where a number does not exist."""
    pi: Floats | None
    """Stationary distribution, `[S]`; None when it is not unique."""
    curve: Curve | None
    """Measured distance to it, step by step; None without it."""


def analyse(
    chain: Chain, temperature: float, steps: int = 200, texts: Iterable[Sequence[int]] | None = None
) -> Analysis:
    """Structure, stationary distribution and mixing of a chain.

    Args:
        chain: the chain.
        temperature: of the chain, for the row.
        steps: tokens for which the distance is measured and held against the bound.
        texts: training texts in the chain's own tokens, for the mass on states that occur in them; None: not asked.
    """
    space, classes = chain.space, chain.classes
    log_eps = log_epsilon(chain)
    row: dict[str, Any] = {
        "temperature": temperature,
        "states": len(space),
        "transient": classes.transient,
        "closed classes": len(classes.recurrent),
        "period": max(classes.periods),
        "log10 eps": log_eps / math.log(10) if math.isfinite(log_eps) else None,
    }
    if len(classes.recurrent) > 1:
        return Analysis(row | dict.fromkeys(_LATER), None, None)
    equilibrium = stationary(chain)
    second = _second(chain)
    curve = measure(chain, equilibrium.pi, steps, _starts(chain))
    first, probability, returns = likely_states(equilibrium.pi, 1)[0]
    positive = equilibrium.pi[equilibrium.pi > 0]
    row |= {
        "|lambda_2|": second,
        "relaxation time": None if second is None else relaxation_time(second),
        "t_mix(1/4)": _mixing_time(chain, equilibrium.pi, curve),
        "bound violations": violations(curve, log_eps, space.window),
        "entropy of pi": float(-(positive * np.log2(positive)).sum()),
        "top state": space.label(first),
        "its probability": probability,
        "its return time": returns,
    }
    if texts is not None:
        row["mass on training states"] = mass_on(space, equilibrium.pi, texts)
    return Analysis(row, equilibrium.pi, curve)


_LATER = (
    "|lambda_2|", "relaxation time", "t_mix(1/4)", "bound violations", "entropy of pi", "top state", "its probability",
    "its return time",
)  # fmt: skip


def _second(chain: Chain) -> float | None:
    """The second eigenvalue; None where the iteration for a large chain does not settle, as very cold ones may not."""
    try:
        return second_eigenvalue(chain)
    except BadInput as error:
        log.warning("%s It is left out.", error)
        return None


def _starts(chain: Chain) -> list[int] | None:
    """All states where they can be followed, else the same few drawn ones each time."""
    size = len(chain.space)
    if size * size <= CELLS:
        return None
    few = max(1, min(STARTS, CELLS // size))
    return sorted(Rng(0).child("starts").numpy().choice(size, few, replace=False).tolist())


def _mixing_time(chain: Chain, pi: Floats, curve: Curve) -> int | None:
    """Exact for small chains; for others read off the curve, as a lower limit, when the curve reaches it."""
    if len(chain.space) <= DENSE:
        return mixing_time(chain.Q.toarray(), pi)
    close = np.flatnonzero(curve.tv <= 0.25)
    return int(close[0]) if len(close) else None


# A language model as the finite Markov chain it is: states, matrix, stationary distribution, one table over temperatures.

TEMPERATURES = (0.2, 0.5, 1.0, 1.5, 2.0)
"""The paper's."""

LISTED = 20_000
"""States up to which a saved chain names each."""


class MarkovLM:
    """The chain of a model that reads its last `window` tokens.

    Restricted to some of its tokens a model is another chain, that of decoding which writes only these: their logits alone go
    into the softmax.

    Args:
        model: a transformers model, a `ModelHandle`, or any function from lists of token ids to next-token logits `[B, V]`.
        vocab: ids of the tokens that make up the states; None: all of the model's.
        window: K, how many tokens the model sees.
        prefix: ids that stand before every state and are no part of it: begin-of-text, a system prompt.
        batch_size: states scored at once; None: what fits a modest memory.
        names: how to print each token; None: its place in `vocab`, or its text where a handle knows it.
        cache: a `.safetensors` file that keeps the logits; read when it belongs to the same model and states. Models only.
        limit: most numbers of the transition matrix, states times tokens.

    Raises:
        BadConfig: the matrix has more numbers than the limit or takes more memory than is free, or a cache is asked for a function.
        BadInput: the vocabulary names a token twice, or the function's logits have the wrong shape.
        ModelMismatch: the model does not have these tokens or positions.
    """

    def __init__(
        self,
        model: Any,
        vocab: Sequence[int] | None = None,
        window: int = 3,
        prefix: Sequence[int] = (),
        batch_size: int | None = None,
        *,
        names: Sequence[str] | None = None,
        cache: Path | None = None,
        limit: int = LIMIT,
    ) -> None:
        self.model, tokenizer = _opened(model)
        self.prefix, self.batch_size, self._cache = tuple(prefix), batch_size, cache
        if cache is not None and not hasattr(self.model, "config"):
            raise BadConfig(
                "A function's logits cannot be kept on disk: nothing tells whether it is the same function again."
            )
        self.vocab = tuple(range(_width(self.model, self.prefix))) if vocab is None else tuple(vocab)
        if len(set(self.vocab)) < len(self.vocab):
            raise BadInput("The vocabulary of a chain names a token twice. Name each once.")
        self.space = StateSpace(len(self.vocab), window, limit)
        self.space.check_memory(free_memory())
        if names is None and tokenizer is not None:
            names = [tokenizer.decode([token]) for token in self.vocab]
        self.names = tuple(names) if names is not None else tuple(str(i) for i in range(len(self.vocab)))
        if len(self.names) != len(self.vocab):
            raise BadInput(f"{len(self.vocab)} tokens need as many names; got {len(self.names)}.")

    @property
    def states(self) -> list[tuple[int, ...]]:
        """All states as token ids, in the order of the matrix."""
        ids = np.asarray(self.vocab)
        blocks = (ids[self.space.block(n)] for n in range(1, self.space.window + 1))
        return [tuple(row) for block in blocks for row in block.tolist()]

    @cached_property
    def logits(self) -> Logits:
        """Next-token logits of all states, `[S, T]`; computed once, for every temperature."""
        if not hasattr(self.model, "config"):
            scorer: Scorer = self.model
            return score_callable(scorer, self.space, self.vocab, self.prefix, self.batch_size)
        if self._cache is None:
            return self._scored()
        key = fingerprint(identity(self.model), self.vocab, self.prefix, self.space.window, length=32)
        kept = _read(self._cache, key)
        if kept is None:
            kept = self._scored()
            _write(self._cache, kept, key)
        return kept

    def _scored(self) -> Logits:
        return score_model(self.model, self.space, self.vocab, self.prefix, self.batch_size)

    def chain(
        self, temperature: float = 1.0, *, top_k: int | None = None, top_p: float | None = None
    ) -> Chain:
        """The chain of decoding with these settings; see `Chain.from_logits`."""
        return Chain.from_logits(self.space, self.logits, temperature, top_k=top_k, top_p=top_p)

    def Q(self, temperature: float = 1.0) -> csr_array:
        """Transition matrix, `[S, S]`, T entries a row."""
        return self.chain(temperature).Q

    def stationary(self, temperature: float = 1.0, method: Method = "auto") -> Floats:
        """Stationary distribution over all states, `[S]`; see `equilibrium.stationary`."""
        return stationary(self.chain(temperature), method).pi

    def analyse(
        self,
        temperatures: Sequence[float] = TEMPERATURES,
        *,
        steps: int = 200,
        texts: Iterable[Sequence[int]] | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> list[Analysis]:
        """One analysis per temperature, from the same logits.

        Args:
            temperatures: tau, each > 0.
            steps: tokens for which distances are measured.
            texts: training texts as token ids, for the stationary mass on states that occur in them.
            top_k: see `Chain.from_logits`.
            top_p: see `Chain.from_logits`.

        Raises:
            BadInput: a text has a token that is none of the chain's.
        """
        own = None if texts is None else [self._own(text) for text in texts]
        return [analyse(self.chain(tau, top_k=top_k, top_p=top_p), tau, steps, own) for tau in temperatures]

    def greedy_cycle(self, start: Sequence[int] | None = None) -> Cycle:
        """The cycle into which greedy decoding falls from `start` (token ids); None: from the first token."""
        return greedy_cycle(self.space, self.logits, [0] if start is None else self._own(start))

    def greedy_cycles(self) -> list[Cycle]:
        """All cycles of greedy decoding, the one with the largest basin first."""
        return greedy_cycles(self.space, self.logits)

    def label(self, index: int) -> str:
        """A state in words."""
        return self.space.label(index, self.names)

    def describe(self) -> dict[str, Any]:
        """What the states are, as `states.json` says it."""
        return {
            "tokens": self.space.tokens,
            "window": self.space.window,
            "states": len(self.space),
            "full-length states": self.space.full,
            "vocab": list(self.vocab),
            "names": list(self.names),
            "prefix": list(self.prefix),
            "order": "by length, then lexicographically by the place of the tokens in vocab",
        }

    def save(
        self, folder: str | Path, temperatures: Sequence[float] = TEMPERATURES, **options: Any
    ) -> list[Path]:
        """Write `Q-TAU.npz` for each temperature (scipy sparse), `states.json` and `analysis.json`; their paths.

        Args:
            folder: made when missing.
            temperatures: tau, each > 0; `Q.npz` is the first of them, or tau 1 where that is among them.
            options: more for `analyse`.
        """
        return save(self, Path(folder), self.analyse(temperatures, **options), **_decoding(options))

    def _own(self, ids: Sequence[int]) -> list[int]:
        """Token ids as places in the vocabulary."""
        places = {token: index for index, token in enumerate(self.vocab)}
        missing = [token for token in ids if token not in places]
        if missing:
            raise BadInput(
                f"Token {missing[0]} is none of the chain's tokens ({', '.join(map(str, self.vocab[:12]))})."
            )
        return [places[token] for token in ids]


def save(lm: MarkovLM, folder: Path, analyses: Sequence[Analysis], **decoding: Any) -> list[Path]:
    """Write what `MarkovLM.save` writes, from analyses that are there already."""
    folder.mkdir(parents=True, exist_ok=True)
    taus = [analysis.row["temperature"] for analysis in analyses]
    paths = []
    for tau in taus:
        main = tau == (1.0 if 1.0 in taus else taus[0])
        paths.append(folder / ("Q.npz" if main else f"Q-{tau:g}.npz"))
        save_npz(paths[-1], lm.chain(tau, **decoding).Q)
    listed = [lm.label(i) for i in range(len(lm.space))] if len(lm.space) <= LISTED else None
    cycles = [
        {"period": c.period, "basin": c.basin, "states": [lm.label(i) for i in c.members[:64]]}
        for c in lm.greedy_cycles()[:16]
    ]
    write_json(folder / "states.json", lm.describe() | {"labels": listed})
    write_json(folder / "analysis.json", {"temperatures": [a.row for a in analyses], "greedy cycles": cycles})
    return [*paths, folder / "states.json", folder / "analysis.json"]


def _decoding(options: dict[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in ("top_k", "top_p") if name in options}


def _opened(model: Any) -> tuple[Any, Any]:
    """A transformers model or a function, and the tokenizer where a handle brings one."""
    if hasattr(model, "processor") and hasattr(model, "model"):
        return model.model, model.processor
    if not callable(model):
        raise BadInput(
            f"A chain needs a transformers model, a ModelHandle or a function; got {type(model).__name__}."
        )
    return model, None


def _width(model: Any, prefix: Sequence[int]) -> int:
    if hasattr(model, "config"):
        return int(model.config.get_text_config().vocab_size)
    return int(np.asarray(model([[*prefix, 0]])).shape[-1])


def _read(path: Path, key: str) -> Logits | None:
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            return file.get_tensor("logits") if (file.metadata() or {}).get("key") == key else None
    except (SafetensorError, OSError, json.JSONDecodeError):
        return None


def _write(path: Path, logits: Logits, key: str) -> None:
    from safetensors.numpy import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    save_file({"logits": logits}, partial, metadata={"key": key})
    partial.replace(path)
