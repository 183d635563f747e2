"""The Markov chain of a model: its sparse transition matrix from logits, and its classes of states."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from gnomon.errors import BadConfig, BadInput
from gnomon.methods.markov.chain.states import Ints, StateSpace

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Classes:
    """Communicating classes of a chain's states."""

    recurrent: tuple[Ints, ...]
    """Closed classes: state numbers of each, in order. One of them means a unique stationary distribution."""
    periods: tuple[int, ...]
    """Period of each closed class; 1 is aperiodic."""
    transient: int
    """Number of states outside of them."""

    @property
    def is_ergodic(self) -> bool:
        """Whether the chain forgets where it began: one closed class, and that aperiodic."""
        return self.periods == (1,)


class Chain:
    """A model's chain at one temperature.

    From a state u the token x is written with probability f(u)_x and the last K tokens are the next state.

    Args:
        space: the states.
        logp: log-probabilities (nats) of the next token, `[S, T]`; -inf where decoding never writes it.

    Raises:
        BadInput: `logp` has another shape, or a row does not sum to 1.
    """

    def __init__(self, space: StateSpace, logp: Floats) -> None:
        if logp.shape != (len(space), space.tokens):
            raise BadInput(
                f"Log-probabilities must be [{len(space)}, {space.tokens}], a row per state; got {list(logp.shape)}."
            )
        self.space, self.logp = space, np.asarray(logp, dtype=np.float64)
        off = np.abs(np.exp(self.logp).sum(1) - 1)
        if not (off < 1e-9).all():
            raise BadInput(f"Row {int(off.argmax())} of the log-probabilities does not sum to 1.")

    @classmethod
    def from_logits(
        cls,
        space: StateSpace,
        logits: NDArray[np.floating],
        temperature: float = 1.0,
        *,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> Chain:
        """The chain of a model that decodes with these settings.

        Args:
            space: the states.
            logits: of the next token, `[S, T]`.
            temperature: tau > 0; the logits are divided by it.
            top_k: keep only so many tokens; None: all.
            top_p: keep only the most probable tokens that together reach this; None: all.

        Raises:
            BadConfig: a setting is out of range.
            BadInput: a logit is not finite.
        """
        if not temperature > 0:
            raise BadConfig(
                f"temperature must be > 0; got {temperature}. Greedy decoding is a cycle: see greedy_cycle."
            )
        if not np.isfinite(logits).all():
            raise BadInput("The model gave a logit that is not finite; load it in float32 and try again.")
        logp = log_softmax(np.asarray(logits, dtype=np.float64) / temperature)
        return cls(space, truncate(logp, top_k, top_p))

    @cached_property
    def probabilities(self) -> Floats:
        """f(u)_x, `[S, T]`."""
        p: Floats = np.exp(self.logp)
        return p

    @cached_property
    def Q(self) -> csr_array:
        """Transition matrix, `[S, S]`: T entries a row, at columns that follow from arithmetic."""
        rows = np.arange(len(self.space) + 1, dtype=np.int64) * self.space.tokens
        columns = self.space.successors().ravel()
        return csr_array((self.probabilities.ravel(), columns, rows), shape=(len(self.space),) * 2)

    @cached_property
    def classes(self) -> Classes:
        """Closed classes, their periods and the number of transient states.

        Which transitions exist is read from the logarithms: a probability too small for a float is still one.
        """
        exists = np.isfinite(self.logp).ravel()
        tokens, size = self.space.tokens, len(self.space)
        start = np.repeat(np.arange(size, dtype=np.int64), tokens)[exists]
        end = self.space.successors().ravel()[exists]
        graph = csr_array((np.ones(len(start), dtype=np.int8), (start, end)), shape=(size, size))
        count, component = connected_components(graph, directed=True, connection="strong")
        is_closed = np.ones(count, dtype=bool)
        is_closed[component[start[component[start] != component[end]]]] = False
        members = np.flatnonzero(is_closed[component])
        order = members[np.argsort(component[members], kind="stable")]
        groups = np.split(order, np.flatnonzero(np.diff(component[order])) + 1)
        groups.sort(key=lambda group: int(group[0]))
        periods = [_period(graph, group, component, start, end) for group in groups]
        return Classes(tuple(groups), tuple(periods), size - len(members))

    def next_token(self, distribution: Floats) -> Floats:
        """Distribution after one more token, `[..., S]`, from one over states, `[..., S]`."""
        moved: Floats = (self.transposed @ np.moveaxis(distribution, -1, 0)).T
        return moved

    @cached_property
    def transposed(self) -> csr_array:
        """Q transposed: times distributions as columns, it moves them all on by one token."""
        return self.Q.T.tocsr()


def log_softmax(logits: Floats) -> Floats:
    """Log-probabilities over the last axis, in float64."""
    shifted = logits - logits.max(-1, keepdims=True)
    logp: Floats = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return logp


def truncate(logp: Floats, top_k: int | None = None, top_p: float | None = None) -> Floats:
    """Log-probabilities after top-k and then top-p: -inf where a token is never written.

    Args:
        logp: `[S, T]`.
        top_k: how many tokens stay; ties go to the lower token.
        top_p: the shortest list of the most probable tokens whose sum reaches this stays.

    Raises:
        BadConfig: top_k is below 1, or top_p is not within (0, 1].
    """
    if top_k is not None and top_k < 1:
        raise BadConfig(f"top_k must be >= 1; got {top_k}.")
    if top_p is not None and not 0 < top_p <= 1:
        raise BadConfig(f"top_p must be above 0 and at most 1; got {top_p}.")
    if top_k is None and top_p in (None, 1.0):
        return logp
    order = np.argsort(-logp, axis=1, kind="stable")
    ranked = np.take_along_axis(logp, order, 1)
    stays = np.ones_like(ranked, dtype=bool)
    if top_k is not None:
        stays[:, top_k:] = False
        ranked = log_softmax(np.where(stays, ranked, -np.inf))
    if top_p is not None:
        before = np.cumsum(np.exp(ranked), axis=1) - np.exp(ranked)
        stays &= before < top_p - 1e-12
        stays[:, 0] = True
    kept = np.full_like(logp, -np.inf)
    np.put_along_axis(kept, order, np.where(stays, ranked, -np.inf), 1)
    return log_softmax(kept)


def _period(graph: csr_array, group: Ints, component: NDArray[np.int32], start: Ints, end: Ints) -> int:
    """Greatest common divisor of the lengths of all cycles in a closed class."""
    order, parent = breadth_first_order(graph, int(group[0]), directed=True)
    level = np.zeros(graph.shape[0], dtype=np.int64)
    for node in order[1:].tolist():
        level[node] = level[parent[node]] + 1
    mine = component[start] == component[group[0]]
    return int(np.gcd.reduce(level[start[mine]] + 1 - level[end[mine]]))
