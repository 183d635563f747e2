"""Hidden states of answers at a few tokens, and divisions of the questions for training, choosing and testing.

One forward pass for each answer, of which only the wanted rows are kept, in float16 shards on disk. All answers to one question
fall on the same side of a division.
"""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from gnomon.core.config import fingerprint
from gnomon.core.files import write_json
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput, ModelMismatch
from gnomon.methods.truth_probes.answers.answers import Answer
from gnomon.methods.truth_probes.states.positions import DEFAULT, check_positions, places

if TYPE_CHECKING:
    from gnomon.core.log import Advances
    from gnomon.core.models import ModelHandle

log = logging.getLogger(__name__)

Site = Literal["mlp", "mlp_input", "attention", "residual"]
"""mlp: what the MLP of a block writes; mlp_input: what it reads, after the norm; attention: what attention writes; residual: the
stream after the block."""

SITES = {"mlp": "mlp_out", "mlp_input": "mlp_in", "attention": "attn_out", "residual": "resid_post"}

SHARD = 256
"""Answers per shard; a killed run repeats at most one."""

LIMIT = 65504.0
"""The largest float16."""


@dataclass(frozen=True)
class RepStore:
    """States [N, layers, positions, D] of N answers."""

    states: NDArray[np.float16]
    model_id: str
    model_key: str
    """A hash of the model's class and of all its weights."""
    site: Site
    layers: tuple[int, ...]
    positions: tuple[str, ...]
    keys: tuple[tuple[str, int, int], ...]
    """Question, seed and draw of each answer, in order."""

    def at(self, layer: int, position: str = DEFAULT) -> NDArray[np.float32]:
        """States [N, D] of one layer at one position.

        Raises:
            BadInput: the layer or the position was not captured.
        """
        if layer not in self.layers:
            raise BadInput(
                f"Layer {layer} was not captured; the states hold layers {', '.join(map(str, self.layers))}."
            )
        if position not in self.positions:
            raise BadInput(
                f'Position "{position}" was not captured; the states hold {", ".join(self.positions)}.'
            )
        states = self.states[:, self.layers.index(layer), self.positions.index(position)]
        return states.astype(np.float32)

    def take(self, rows: Sequence[int]) -> RepStore:
        """States of some answers, by row."""
        return RepStore(
            self.states[list(rows)], self.model_id, self.model_key, self.site, self.layers, self.positions,
            tuple(self.keys[i] for i in rows),
        )  # fmt: skip

    @classmethod
    def load(cls, folder: Path) -> RepStore:
        """The states in a folder that `represent` wrote.

        Raises:
            BadInput: no states are there, or they are not complete.
        """
        from safetensors.numpy import load_file

        try:
            index = json.loads((folder / "index.json").read_text("utf-8"))
        except (OSError, ValueError):
            raise BadInput(
                f"{folder} holds no complete states. Make them with `gnomon truth-probes represent`."
            ) from None
        parts = [load_file(folder / name)["states"] for name in index["shards"]]
        return cls(
            np.concatenate(parts),
            index["model_id"],
            index["model_key"],
            index["site"],
            tuple(index["layers"]),
            tuple(index["positions"]),
            tuple((name, seed, draw) for name, seed, draw in index["rows"]),
        )


def model_key(model: Any) -> str:
    """A hash that tells one checkpoint from another: its class, and the names and all numbers of its weights in bfloat16."""
    from gnomon.core.models.load import weights_key

    state = sorted(model.state_dict().items())
    names = [name for name, _ in state]
    return fingerprint(type(model).__name__, names, weights_key(w for _, w in state), length=32)


def check_layers(layers: Sequence[int] | None, depth: int) -> tuple[int, ...]:
    """The layers as they are, counted from 0; all of them for None.

    Raises:
        BadConfig: the model has no such layer, or one is named twice.
    """
    if not layers:
        return tuple(range(depth))
    for layer in layers:
        if not 0 <= layer < depth:
            raise BadConfig(f"The model has layers 0 to {depth - 1} and no layer {layer}.")
    if len(set(layers)) != len(layers):
        raise BadConfig(f"layers must be different; got {list(layers)}.")
    return tuple(layers)


def with_mlp_inputs(handle: ModelHandle) -> ModelHandle:
    """The handle with sites `{i}.mlp_in` beside its own: what a block's MLP reads.

    Raises:
        ModelMismatch: the blocks name no module that is their MLP.
    """
    from gnomon.core.models.architectures.sites import Place, Sites

    inputs = {}
    for i, block in enumerate(handle.sites.top.blocks):
        parts = dict(block.named_children())
        module = parts.get("mlp") or parts.get("fc1")
        if module is None:
            raise ModelMismatch(
                f"A block of {type(handle.model).__name__} has no module called mlp; choose another --site."
            )
        inputs[f"{i}.mlp_in"] = Place(module, "in", handle.sites[f"{i}.mlp_out"].stack)
    wide = copy.copy(handle)
    wide.sites = Sites({**handle.sites, **inputs}, handle.sites.stacks)
    return wide


@dataclass(frozen=True)
class Capture:
    """Which hidden states are kept."""

    site: Site = "mlp"
    """Tensor of a block."""
    layers: Sequence[int] | None = None
    """Blocks, counted from 0; None or empty: all."""
    positions: Sequence[str] = (DEFAULT,)
    """Names from `positions.NAMED`, or `("all",)`."""


def represent(
    model: Any,
    tokenizer: Any,
    answers: Sequence[Answer],
    capture: Capture | None = None,
    *,
    folder: Path | None = None,
    is_own: bool = False,
    batch_tokens: int = 16_384,
    progress: Advances | None = None,
) -> RepStore:
    """Hidden states of the answers at the named positions.

    Args:
        model: a `ModelHandle`, or a causal transformers model.
        tokenizer: its tokenizer; None with a handle.
        answers: of this model; with an exact answer where a position needs one.
        capture: site, layers and positions; None: the MLP's output of all layers at the last token of the exact answer.
        folder: where shards and their index are kept; shards that are there already are not computed again. None: in memory only.
        is_own: whether the folder is the caller's own: states of other answers in it, from before some were labelled, are removed.
        batch_tokens: tokens read at once, padding included.
        progress: advanced after every shard.

    Raises:
        BadConfig: the site, a layer or a position does not exist.
        BadInput: an answer has no such position, or the folder holds other states.
    """
    from gnomon.core.models import as_handle

    capture = capture or Capture()
    site = capture.site
    if site not in SITES:
        raise BadConfig(f'site must be one of {", ".join(SITES)}; got "{site}".')
    handle = as_handle(model, tokenizer)
    if site == "mlp_input":
        handle = with_mlp_inputs(handle)
    layers = check_layers(capture.layers, len(handle.sites.top.blocks))
    names = check_positions(capture.positions)
    where = [places(handle.processor, answer, names) for answer in answers]
    if not answers:
        raise BadInput("There are no answers to look at.")
    name = str(getattr(handle.model, "name_or_path", "") or type(handle.model).__name__)
    key = model_key(handle.model)
    index = {
        "model_id": name,
        "model_key": key,
        "site": site,
        "layers": list(layers),
        "positions": list(names),
        "rows": [list(answer.key) for answer in answers],
    }
    shards = _Shards(folder, fingerprint(index, [a.output_ids for a in answers], length=16), is_own)
    parts = []
    for start in range(0, len(answers), SHARD):
        part = slice(start, start + SHARD)
        read = partial(_read, handle, answers[part], where[part], layers, site, batch_tokens)
        parts.append(shards.get(start // SHARD, read))
        if progress is not None:
            progress.advance(len(parts[-1]))
    shards.finish(index)
    keys = tuple(answer.key for answer in answers)
    return RepStore(np.concatenate(parts), name, key, site, layers, names, keys)


def states_of(
    handle: ModelHandle, answers: Sequence[Answer], layer: int, site: Site, position: str
) -> NDArray[np.float32]:
    """Hidden states [N, D] of answers at one place, for whoever knows that the model is the right one.

    Raises:
        BadInput: an answer has no such position.
    """
    wide = with_mlp_inputs(handle) if site == "mlp_input" else handle
    where = [places(handle.processor, answer, (position,)) for answer in answers]
    return _read(wide, answers, where, (layer,), site, 16_384)[:, 0, 0].astype(np.float32)


class _Shards:
    """Finished shards of a folder, in files whose names say what they belong to."""

    def __init__(self, folder: Path | None, key: str, is_own: bool):
        self.folder, self.key, self.names = folder, key, []  # type: Path | None, str, list[str]
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            odd = [
                path
                for path in folder.glob("part-*.safetensors")
                if not path.name.endswith(f"-{key}.safetensors")
            ]
            if odd and not is_own:
                raise BadInput(
                    f"{folder} holds states of other answers or settings ({odd[0].name}). Use --fresh or another folder."
                )
            for path in odd:
                path.unlink()

    def get(self, number: int, make: Any) -> NDArray[np.float16]:
        from safetensors.numpy import load_file, save_file

        if self.folder is None:
            return make()  # type: ignore[no-any-return]
        path = self.folder / f"part-{number:05d}-{self.key}.safetensors"
        self.names.append(path.name)
        if path.exists():
            return load_file(path)["states"]
        states = make()
        partial = path.with_suffix(".partial")
        save_file({"states": states}, partial)
        partial.replace(path)  # a killed run leaves no half a shard under the final name
        return states  # type: ignore[no-any-return]

    def finish(self, index: dict[str, Any]) -> None:
        if self.folder is not None:
            write_json(self.folder / "index.json", index | {"shards": self.names})


def _read(
    handle: ModelHandle,
    answers: Sequence[Answer],
    where: Sequence[Sequence[int]],
    layers: Sequence[int],
    site: Site,
    batch_tokens: int,
) -> NDArray[np.float16]:
    """States [N, layers, positions, D], answers of similar length read together."""
    from gnomon.core.models.batch import pad
    from gnomon.core.models.sampling.text import padding_id

    rows = [[*answer.prompt_ids, *answer.output_ids] for answer in answers]
    # The longest first: if memory does not suffice, that shows at once.
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]), reverse=True)
    names = [f"{layer}.{SITES[site]}" for layer in layers]
    kept: NDArray[np.float16] | None = None
    while order:
        together = max(1, batch_tokens // len(rows[order[0]]))
        part, order = order[:together], order[together:]
        batch = pad([rows[i] for i in part], padding_id(handle.processor), "right").to(handle.model.device)
        seen = handle.capture(batch, names, where=[where[i] for i in part])
        states = np.stack([seen[name].float().cpu().numpy() for name in names], axis=1)
        if np.abs(states).max() > LIMIT:
            log.warning(
                "States beyond %g were cut off to fit float16; the site `mlp_input` is normed and smaller.",
                LIMIT,
            )
            # float16 ends there; infinities would make every probe fail.
            states = np.clip(states, -LIMIT, LIMIT)
        if kept is None:
            kept = np.empty((len(rows), *states.shape[1:]), np.float16)
        kept[part] = states
    assert kept is not None
    return kept


# Divisions of the questions.

Rows = NDArray[np.int64]

FEWEST = 20
"""Answers of a class below which nothing is trained."""


def split(ids: Sequence[str], seed: int, share: float = 0.2) -> tuple[Rows, Rows]:
    """Rows of the larger and of the smaller side; the smaller one has `share` of the questions.

    A question's side depends on the seed and the set of questions, not on the order of the rows.

    >>> larger, smaller = split(["a", "a", "b", "c", "d", "e"], seed=0)
    >>> len({0, 1} & set(larger.tolist())) in (0, 2)
    True
    """
    names = sorted(set(ids))
    # Drawn over sorted names, so that the order of the rows has no effect.
    order = Rng(seed).child("split").numpy().permutation(len(names))
    few = {names[i] for i in order[: max(1, round(share * len(names)))]}
    inside = np.array([name in few for name in ids])
    return np.flatnonzero(~inside), np.flatnonzero(inside)


def folds(ids: Sequence[str], count: int, seed: int) -> list[tuple[Rows, Rows]]:
    """`count` ways to train on all questions but a `count`-th and test on that, each question tested once."""
    names = sorted(set(ids))
    order = Rng(seed).child("folds").numpy().permutation(len(names))
    fold = {names[i]: rank % count for rank, i in enumerate(order)}
    where = np.array([fold[name] for name in ids])
    return [(np.flatnonzero(where != k), np.flatnonzero(where == k)) for k in range(count)]


def usable(answers: Sequence[Answer]) -> list[int]:
    """Rows that have a label and an exact answer, right and wrong ones by the same rule."""
    return [i for i, answer in enumerate(answers) if answer.is_usable]


def require_both(labels: Sequence[int] | NDArray[np.int64], what: str, fewest: int = FEWEST) -> None:
    """Refuse labels from which no probe can learn.

    Raises:
        BadInput: fewer than `fewest` right or wrong answers; the message has the counts.
    """
    right = int(np.sum(labels))
    wrong = len(labels) - right
    if min(right, wrong) < fewest:
        raise BadInput(
            f"{what}: {right} right and {wrong} wrong answers; a probe needs at least {fewest} of each. "
            "Ask more questions, or ones that the model sometimes gets wrong and sometimes right."
        )
