"""The paper's generalisation bounds as a calculator. A bound above 1 on a total variation says nothing, and is called vacuous.

Symbols: T vocabulary, r width, B_U a bound on the unembedding, tau temperature, c0 smallest true probability, Gamma the mixing
matrix of the data (1 for independent data), delta the chance that the bound fails.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gnomon.core.config import check
from gnomon.core.models.load import model_at
from gnomon.errors import BadInput

OUTPUT_NAMES = ("lm_head.weight", "embed_out.weight", "output.weight")
"""What checkpoints call the unembedding; behind any prefix such as `model.`."""

INPUT_NAMES = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
"""What they call the embedding, which stands in for it where the two are tied."""


@dataclass(frozen=True)
class Bound:
    """A bound on the risk, which is a total variation in 0..1."""

    b_bar: float
    """The constant B_bar."""
    gap: float
    """Generalisation gap: what the bound adds to the empirical risk."""
    risk: float
    """Bound on the risk: the empirical risk and the gap."""

    @property
    def is_vacuous(self) -> bool:
        """Whether it says nothing: every total variation is at most 1."""
        return self.risk >= 1

    def sentence(self) -> str:
        """The bound in words, and what it is worth."""
        if self.is_vacuous:
            return f"The bound is {self.risk:.4g}: vacuous, because no risk exceeds 1. It needs more data, or a smaller B_U."
        return f"The risk is at most {self.risk:.4g}, of which {self.gap:.4g} is the generalisation gap."


def paper_b_u(vocab: int, width: int) -> float:
    """B_U as the paper takes it: T sqrt(r), every row of the unembedding with entries up to 1.

    Source: LLMs as Markov chains (arXiv 2410.02724), bound on the unembedding in the assumptions.
    """
    check(vocab >= 1, "vocab", ">= 1", vocab)
    check(width >= 1, "width", ">= 1", width)
    return vocab * math.sqrt(width)


def b_bar(
    vocab: int, b_u: float, *, temperature: float = 1.0, c0: float | None = None, gamma: float = 1.0
) -> float:
    """B_bar = 2 ||Gamma|| sqrt(max{log T + 2 B_U / tau, log(1 / c0)}).

    Args:
        vocab: T (or d, the number of states, in context).
        b_u: B_U, or what takes its place.
        temperature: tau.
        c0: smallest true probability of a next token; None: large enough not to matter.
        gamma: operator norm of the data's mixing matrix, >= 1.

    Raises:
        BadConfig: a number is out of range.

    Source: LLMs as Markov chains (arXiv 2410.02724), constant of the generalisation bounds.
    """
    check(vocab >= 2, "vocab", ">= 2", vocab)
    check(b_u >= 0, "B_U", ">= 0", b_u)
    check(temperature > 0, "temperature", "> 0", temperature)
    check(c0 is None or 0 < c0 <= 1, "c0", "above 0 and at most 1", c0)
    check(gamma >= 1, "gamma", ">= 1", gamma)
    inside = max(math.log(vocab) + 2 * b_u / temperature, math.log(1 / c0) if c0 else 0.0)
    return 2 * gamma * math.sqrt(inside)


def pretraining(b: float, n_train: float, *, delta: float = 0.05, empirical: float = 0.0) -> Bound:
    """R <= R_hat + B_bar / sqrt(N) sqrt(log(2 / delta)), with probability 1 - delta.

    Args:
        b: B_bar.
        n_train: N, tokens of pre-training.
        delta: chance that the bound fails.
        empirical: R_hat, 0..1.

    Raises:
        BadConfig: a number is out of range.

    Source: LLMs as Markov chains (arXiv 2410.02724), pre-training bound.
    """
    _check_sample(n_train, delta)
    gap = b * math.sqrt(math.log(2 / delta) / n_train)
    return Bound(b, gap, empirical + gap)


def l1_error(b: float, n_train: float, *, delta: float = 0.05) -> float:
    """E = 2 B_bar / sqrt(N) sqrt(log(2 / delta)): expected L1 error (at most 2) of a perfectly pre-trained model.

    Source: LLMs as Markov chains (arXiv 2410.02724), pre-training bound, solved for the error.
    """
    return 2 * pretraining(b, n_train, delta=delta).gap


def sample_size(b: float, error: float, *, delta: float = 0.05) -> int:
    """N* = ceil(4 B_bar^2 / e^2 log(2 / delta)), tokens for an expected L1 error of at most `error`.

    Source: LLMs as Markov chains (arXiv 2410.02724), sample size of perfect pre-training.
    """
    check(0 < error <= 2, "error", "above 0 and at most 2", error)
    _check_sample(1, delta)
    return math.ceil(4 * b * b / error**2 * math.log(2 / delta))


@dataclass(frozen=True)
class ChainConstants:
    """What the in-context bound needs of the chain that a prompt is drawn from."""

    states: int
    """d, >= 2."""
    t_min: float
    """Mixing constant, > 0; see `rates.t_min`."""
    p_min: float
    """Smallest transition probability, above 0 and at most 1."""


def icl(
    constants: ChainConstants,
    b_u: float,
    length: float,
    *,
    temperature: float = 1.0,
    delta: float = 0.05,
    empirical: float = 0.0,
    distance: float = 0.0,
) -> Bound:
    """In-context bound on a chain of d states: R_hat + K(theta, Theta) + B_bar sqrt(t_min / N) sqrt(log(2 / delta)).

    Args:
        constants: of the chain.
        b_u: B_U.
        length: N, states in the prompt.
        temperature: tau.
        delta: chance that the bound fails.
        empirical: in-context empirical risk of the best reference model.
        distance: K, mean expected TV between that model and this one.

    Raises:
        BadConfig: a number is out of range.

    Source: LLMs as Markov chains (arXiv 2410.02724), in-context bound.
    """
    _check_sample(length, delta)
    t_min, p_min = constants.t_min, constants.p_min
    check(t_min > 0, "t_min", "> 0", t_min)
    check(0 < p_min <= 1, "p_min", "above 0 and at most 1", p_min)
    b = b_bar(constants.states, b_u, temperature=temperature, c0=p_min)
    gap = b * math.sqrt(t_min / length * math.log(2 / delta))
    return Bound(b, gap, empirical + distance + gap)


@dataclass(frozen=True)
class Unembedding:
    """What a checkpoint's unembedding contributes to the bounds."""

    vocab: int
    """T, rows."""
    width: int
    """r, columns."""
    b_u: float
    """||W_U^T||_{2,1}: the L2 lengths of all rows, added."""
    largest: float
    """Largest entry: the paper's B_U supposes at most 1."""
    tensor: str
    """Name of the tensor that was read."""

    @property
    def paper_b_u(self) -> float:
        """B_U as the paper takes it, T sqrt(r)."""
        return paper_b_u(self.vocab, self.width)


def from_model(ref: str | Path) -> Unembedding:
    """The unembedding of a checkpoint: that one tensor is read, in pieces, and nothing else.

    Args:
        ref: a folder with safetensors, or a hub id that is cached.

    Raises:
        BadInput: there are no safetensors, or none of their tensors is an unembedding.
    """
    from safetensors import safe_open

    file, name = _find(_folder(ref))
    total, largest = 0.0, 0.0
    with safe_open(file, framework="pt") as opened:
        part = opened.get_slice(name)
        rows, width = part.get_shape()
        for start in range(0, rows, 8192):
            piece: Any = part[start : start + 8192].double()
            total += float(piece.norm(dim=1).sum())
            largest = max(largest, float(piece.abs().max()))
    return Unembedding(rows, width, total, largest, name)


def _folder(ref: str | Path) -> Path:
    folder = Path(model_at(ref))
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(str(ref), local_files_only=True, allow_patterns=["*.safetensors*", "*.json"])
        )
    except (HFValidationError, LocalEntryNotFoundError) as error:
        raise BadInput(
            f'Model "{ref}" is neither a folder here nor a cached hub model. Download it first.'
        ) from error


def _find(folder: Path) -> tuple[Path, str]:
    """The file and the name of the unembedding; the embedding where the two are tied."""
    from safetensors import safe_open

    index = folder / "model.safetensors.index.json"
    if index.exists():
        where = {n: folder / f for n, f in json.loads(index.read_text("utf-8"))["weight_map"].items()}
    else:
        where = {}
        for file in sorted(folder.glob("*.safetensors")):
            with safe_open(file, framework="pt") as opened:
                where |= dict.fromkeys(opened.keys(), file)
    if not where:
        raise BadInput(f'"{folder}" has no safetensors weights. Save the model with save_pretrained.')
    for ending in (*OUTPUT_NAMES, *INPUT_NAMES):
        for name, file in where.items():
            if name == ending or name.endswith(f".{ending}"):
                return file, name
    raise BadInput(
        f'"{folder}" has no tensor called {", ".join(OUTPUT_NAMES)}. Give --vocab and --width in place of --model.'
    )


def _check_sample(n: float, delta: float) -> None:
    check(n >= 1, "N", ">= 1", n)
    check(0 < delta < 1, "delta", "within (0, 1)", delta)
