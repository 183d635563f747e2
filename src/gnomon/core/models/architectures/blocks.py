"""What one block does to its stream: the calls whose outputs, added to its input, give its output."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gnomon.core.models.architectures.calls import Call, like, same

FEWEST_TOKENS, MOST_LEFT = 12, 0.02
"""Tokens that are needed to tell two weights for each feature from chance, which explains 2 of so many of a change's squares; and
the share of them that rounding may leave unexplained."""

MOST_STEPS = 4
"""Most updates of the stream within a block that are looked for."""


@dataclass(frozen=True)
class BlockParts:
    """What one block does to the stream: `None` where a part does not exist or could not be verified."""

    attn_out: nn.Module | None = None
    cross_out: nn.Module | None = None
    mlp_out: nn.Module | None = None
    mid_into: nn.Module | None = None
    """The module that the stream enters before its last update."""
    mid_from: nn.Module | None = None
    """Or the module that it leaves there."""
    weights: tuple[float, ...] = ()
    """What input and updates are multiplied by before they are added; empty where all of them are 1."""
    reason: str = ""
    """Why parts are missing; empty where none is."""


def block_parts(block: Call, inner: Sequence[Call]) -> BlockParts:
    """What a block adds to its stream."""
    assert block.x is not None and block.y is not None
    pre, post = block.x, block.y
    updates = _updates(pre, inner)
    chain = _steps(pre, post, updates, inner, MOST_STEPS)
    if chain is not None:
        return _named(chain, inner)
    for a, b in itertools.combinations(updates, 2):  # both read the same stream
        if same(pre + like(a.y, pre) + like(b.y, pre), post):
            mixer, other = _mixer_first(a, b)
            return BlockParts(attn_out=mixer.module, mlp_out=other.module)
    weighted = _weighted(pre, post, updates)
    if weighted is not None:
        (a, b), weights = weighted
        mixer, other = _mixer_first(a, b)
        if _reads_encoder(mixer, inner) and not _reads_encoder(other, inner):
            return BlockParts(cross_out=mixer.module, mlp_out=other.module, weights=weights)
        return BlockParts(attn_out=mixer.module, mlp_out=other.module, weights=weights)
    scaled = _scaled(pre, post, updates)
    if scaled is not None:
        mixer, other = _mixer_first(*scaled)
        return BlockParts(attn_out=mixer.module, mlp_out=other.module)
    return BlockParts(reason="what its modules return does not add up to what a block changes")


def _updates(pre: Tensor, inner: Sequence[Call]) -> list[Call]:
    """Calls that returned something of the stream's size; of those that returned the same, the outermost."""
    fitting = [call for call in inner if call.y is not None and call.y.numel() == pre.numel()]
    kept: list[Call] = []
    for call in sorted(fitting, key=lambda call: (call.path.count("."), call.exit)):
        if not any(same(call.y, other.y) for other in kept):
            kept.append(call)
    return sorted(kept, key=lambda call: call.exit)


@dataclass(frozen=True)
class _Step:
    update: Call
    norm: Call | None
    """The module that the sum passes before it is the stream again."""
    before: Tensor
    """The stream that the update was added to."""


def _steps(
    stream: Tensor, post: Tensor, updates: Sequence[Call], inner: Sequence[Call], left: int
) -> list[_Step] | None:
    """The updates that lead from `stream` to `post` one after another, each of them read by what comes next."""
    if same(stream, post):
        return []
    if not left:
        return None
    for update in updates:
        summed = stream + like(update.y, stream)
        later = [call for call in updates if call.exit > update.exit]
        if same(summed, post):
            return [_Step(update, None, stream)]
        readers = [
            call for call in inner
            if call.enter > update.exit and same(call.x, summed)
        ]  # fmt: skip
        if not readers:
            continue
        rest = _steps(summed, post, later, inner, left - 1)
        if rest is not None:
            return [_Step(update, None, stream), *rest]
        for reader in readers:  # a block that normalises after adding
            if reader.y is None or reader.y.numel() != summed.numel():
                continue
            normed = like(reader.y, summed)
            rest = _steps(normed, post, [c for c in later if c.exit > reader.exit], inner, left - 1)
            if rest is not None:
                return [_Step(update, reader, stream), *rest]
    return None


def _named(steps: Sequence[_Step], inner: Sequence[Call]) -> BlockParts:
    """The steps by the names of their sites."""
    if not steps:
        return BlockParts(reason="a block returns what it gets")
    updates = [step.update for step in steps]
    if len(updates) == 1:
        alone = updates[0]
        if _is_tokenwise(alone):
            return BlockParts(mlp_out=alone.module, reason="a block has no attention")
        return BlockParts(attn_out=alone.module, reason="a block has no MLP")
    cross = [call for call in updates[1:-1] if _reads_encoder(call, inner)]
    if len(updates) > 3 or (len(updates) == 3 and not cross):
        return BlockParts(reason=f"a block changes its stream {len(updates)} times")
    last = steps[-1]
    before = next(
        (
            call for call in inner
            if call.enter > steps[-2].update.exit and same(call.x, last.before) and call is not steps[-2].norm
        ),
        None,
    )  # fmt: skip
    through = steps[-2].norm
    return BlockParts(
        attn_out=updates[0].module,
        mlp_out=updates[-1].module,
        mid_into=before.module if before is not None and through is None else None,
        mid_from=through.module if through is not None else None,
        cross_out=cross[0].module if cross else None,
    )


def _reads_encoder(call: Call, inner: Sequence[Call]) -> bool:
    return call.reads_states or any(
        other.reads_states for other in inner if other.enter < call.exit and call.enter < other.exit
    )


def _weighted(
    pre: Tensor, post: Tensor, updates: Sequence[Call]
) -> tuple[tuple[Call, Call], tuple[float, ...]] | None:
    """The pair of updates of which a weighted sum with the input is the output: residual multipliers and the like."""
    target = post.flatten().double()
    base = pre.flatten().double()
    for a, b in itertools.combinations(updates, 2):
        columns = torch.stack([base, like(a.y, pre).flatten().double(), like(b.y, pre).flatten().double()], 1)
        solution = torch.linalg.lstsq(columns, target[:, None]).solution
        if same((columns @ solution).squeeze(1).float(), post.flatten()):
            weights = tuple(float(w) for w in solution.squeeze(1))
            if all(abs(w) > 1e-3 for w in weights):
                return (a, b), weights
    return None


def _scaled(pre: Tensor, post: Tensor, updates: Sequence[Call]) -> tuple[Call, Call] | None:
    """The pair of updates that are added after each of their features was multiplied by a weight of its own (layer scale)."""
    width = pre.shape[-1]
    target = (post - pre).reshape(-1, width).double()
    if len(target) < FEWEST_TOKENS:
        return None
    for a, b in itertools.combinations(updates, 2):
        columns = torch.stack([like(u.y, pre).reshape(-1, width).double() for u in (a, b)], -1)  # [T, D, 2]
        weights = torch.linalg.lstsq(columns.transpose(0, 1), target.T[..., None]).solution  # [D, 2, 1]
        summed = (columns.transpose(0, 1) @ weights).squeeze(-1).T.float()
        # The changes are compared and not the streams, which are larger: chance must not pass for a sum.
        left = float((target - summed).square().sum() / target.square().sum())
        is_sum = same(summed, target.float()) or (
            left < MOST_LEFT and same(like(summed, pre) + pre, post)  # in 16 bits a change is known less well
        )
        if is_sum and bool((weights.abs() > 0).all()):
            return a, b
    return None


def _mixer_first(a: Call, b: Call) -> tuple[Call, Call]:
    """The one that moves information between tokens, then the other one."""
    return (b, a) if _is_tokenwise(a) and not _is_tokenwise(b) else (a, b)


def _is_tokenwise(call: Call) -> bool:
    """Whether a module does the same to each token whatever stands beside it: on turned tokens it returns turned ones."""
    if call.x is None or call.y is None or call.x.dim() < 2 or call.x.shape[:-1] != call.y.shape[:-1]:
        return False
    weight = next(call.module.parameters(), None)
    if weight is None:
        return True
    turned = call.x.flip(-2).to(weight.device, weight.dtype)
    try:
        output = call.module.forward(turned)
    except (
        TypeError,
        ValueError,
        RuntimeError,
        AttributeError,
        KeyError,
    ):  # it needs more than the stream: no MLP
        return False
    output = output[0] if isinstance(output, tuple) else output
    return (
        isinstance(output, Tensor)
        and output.shape == call.y.shape
        and same(output.float().cpu(), call.y.flip(-2))
    )
