"""Dynamical systems, simulated in real numbers and cut into d bins of equal width, with their true transition law in bins.

The law of a bin is the mean over points within it of where they go next: exact for the noise, and for the place within the bin as
fine as `POINTS`. The first and the last bin also take what leaves the range that the series covers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.random import Generator
from scipy.special import ndtr

from gnomon.methods.markov.chain.chain import Floats
from gnomon.methods.markov.chain.states import Ints

DT = 0.2
"""Time step of the stochastic equations."""

POINTS = 16
"""Points within a bin that stand for it."""

R = 3.9
"""Parameter of the logistic map: chaotic."""

System = Callable[[int, int, Generator], tuple[Ints, Floats]]


def in_bins(values: Floats, states: int) -> tuple[Ints, Floats]:
    """The bin of each value, and the d + 1 edges of the bins, of which the outer two lie at the extremes."""
    edges = np.linspace(values.min(), values.max(), states + 1)
    return np.clip(np.searchsorted(edges, values, side="right") - 1, 0, states - 1), edges


def law(edges: Floats, step: Callable[[Floats], tuple[Floats, Floats]]) -> Floats:
    """Transition probabilities between bins, `[d, d]`.

    Args:
        edges: of the bins, `[d + 1]`.
        step: values -> mean and standard deviation of the next value, which is normal around it.
    """
    states = len(edges) - 1
    within = (np.arange(POINTS) + 0.5) / POINTS
    total = np.zeros((states, states))
    for share in within:
        mean, sd = (np.broadcast_to(v, states)[:, None] for v in step(edges[:-1] + share * np.diff(edges)))
        below = ndtr((edges[None, 1:-1] - mean) / sd)
        total += np.diff(below, axis=1, prepend=0.0, append=1.0)
    return total / POINTS


def _brownian(states: int, length: int, draw: Generator, *, sigma: float, pull: float) -> tuple[Ints, Floats]:
    """DX = -pull X dt + sigma dW, by Euler's rule."""
    noise = sigma * np.sqrt(DT) * draw.standard_normal(length)
    values = np.zeros(length)
    for n in range(1, length):
        values[n] = values[n - 1] * (1 - pull * DT) + noise[n]
    x, edges = in_bins(values, states)
    return x, law(edges, lambda y: (y * (1 - pull * DT), np.array(sigma * np.sqrt(DT))))


def _geometric(states: int, length: int, draw: Generator, *, sigma: float) -> tuple[Ints, Floats]:
    """Geometric Brownian motion with drift sigma^2 / 2: the logarithm is a Brownian motion without drift."""
    logs = np.concatenate([[0.0], np.cumsum(sigma * np.sqrt(DT) * draw.standard_normal(length - 1))])
    x, edges = in_bins(np.exp(logs), states)
    within = (np.arange(POINTS) + 0.5) / POINTS
    total = np.zeros((states, states))
    for share in within:
        mean = np.log(edges[:-1] + share * np.diff(edges))[:, None]
        below = ndtr((np.log(edges[None, 1:-1]) - mean) / (sigma * np.sqrt(DT)))
        total += np.diff(below, axis=1, prepend=0.0, append=1.0)
    return x, total / POINTS


def _independent(states: int, length: int, draw: Generator, *, normal: bool) -> tuple[Ints, Floats]:
    values = draw.standard_normal(length) if normal else draw.random(length)
    x, edges = in_bins(values, states)
    below = ndtr(edges[1:-1]) if normal else edges[1:-1]
    return x, np.tile(np.diff(below, prepend=0.0, append=1.0), (states, 1))


def _logistic(states: int, length: int, draw: Generator, *, noise: float) -> tuple[Ints, Floats]:
    """X -> R x (1 - x), from a random start and past its beginning; with normal noise, kept within 0..1."""
    value, values = draw.uniform(0.1, 0.9), np.empty(length + 100)
    for n in range(length + 100):
        values[n] = value
        value = min(max(R * value * (1 - value) + noise * draw.standard_normal(), 0.001), 0.999)
    x, edges = in_bins(values[100:], states)
    if noise:
        return x, law(edges, lambda y: (R * y * (1 - y), np.array(noise)))
    # Without noise the law is the share of a bin's points that each bin receives.
    many = 16 * POINTS
    points = edges[:-1, None] + (np.arange(many) + 0.5) / many * np.diff(edges)[:, None]
    after = np.clip(np.searchsorted(edges, R * points * (1 - points), side="right") - 1, 0, states - 1)
    return x, _shares(np.repeat(np.arange(states), many), after.ravel(), states)


def _lorenz(states: int, length: int, draw: Generator) -> tuple[Ints, Floats]:
    """The x coordinate of the Lorenz system every 0.02, by fourth-order Runge-Kutta.

    x alone is no Markov chain. Its law here is the best first-order chain: transitions counted on a run 200 times as long.
    """
    long = max(200 * length, 100_000)
    copies = 100
    start = draw.normal(0, 1, (3, copies)) + np.array([[0.0], [0.0], [25.0]])
    path = _lorenz_path(start, long // copies + 500)[500:]
    series = _lorenz_path(start[:, :1], length + 500)[500:, 0]
    x, edges = in_bins(series, states)
    bins = np.clip(np.searchsorted(edges, path, side="right") - 1, 0, states - 1)
    return x, _shares(bins[:-1].ravel(), bins[1:].ravel(), states)


def _lorenz_path(start: Floats, length: int) -> Floats:
    def slope(s: Floats) -> Floats:
        x, y, z = s
        return np.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])

    step, state, path = 0.02, start, np.empty((length, start.shape[1]))
    for n in range(length):
        path[n] = state[0]
        a = slope(state)
        b = slope(state + step / 2 * a)
        c = slope(state + step / 2 * b)
        state = state + step / 6 * (a + 2 * b + 2 * c + slope(state + step * c))
    return path


def _shares(start: Ints, end: Ints, states: int) -> Floats:
    """Counted transitions as probabilities; a bin that was never left stays where it is."""
    counts = np.zeros((states, states))
    np.add.at(counts, (start, end), 1.0)
    counts[counts.sum(1) == 0] = np.eye(states)[counts.sum(1) == 0]
    shares: Floats = counts / counts.sum(1, keepdims=True)
    return shares


SYSTEMS: dict[str, System] = {
    "brownian": partial(_brownian, sigma=0.8, pull=0.0),
    "geometric-brownian": partial(_geometric, sigma=0.6),
    "ornstein-uhlenbeck": partial(_brownian, sigma=0.8, pull=0.5),
    "gaussian": partial(_independent, normal=True),
    "uniform": partial(_independent, normal=False),
    "logistic": partial(_logistic, noise=0.0),
    "noisy-logistic": partial(_logistic, noise=0.02),
    "lorenz": _lorenz,
}
"""Kind -> (states, length, generator) -> series and law."""
