"""The parts of a model of any architecture, found in one traced forward pass of a few tokens instead of in a table of names.

The blocks are the list of modules that hand one stream of hidden states on; what a block adds to it is whatever, added to its
input, gives its output. A part that does not add up on the traced tokens is not found, and the reason is told.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gnomon.core.models.architectures.blocks import BlockParts, block_parts
from gnomon.core.models.architectures.calls import (
    ROUNDING,
    Call,
    is_norm,
    ratio,
    recorded,
    rounding,
    same,
)

N_TOKENS = 6
"""Tokens of the traced text: enough that no two tensors agree by chance."""


@dataclass(frozen=True)
class Head:
    """How the last stream leads to the logits, beside the norm and the output embedding."""

    scale_in: float = 1.0
    """What the normed state is multiplied by before the output embedding."""
    scale_out: float = 1.0
    """What comes out is multiplied by."""
    cap: float | None = None
    """Soft cap of the logits: cap * tanh(logits / cap)."""


@dataclass(frozen=True)
class Column:
    """One stack of blocks, as the trace shows it."""

    path: str
    root: nn.Module
    blocks: tuple[nn.Module, ...]
    parts: tuple[BlockParts, ...]
    final_norm: nn.Module | None
    project: nn.Module | None
    head: Head | None
    """`None` where the way from the last block to the logits could not be verified."""
    head_module: nn.Module | None = None
    """What makes logits of the normed state, where that is more than the output embedding; `None` for that alone."""
    reasons: tuple[str, ...] = ()


class NotTraced(Exception):
    """The forward pass shows no stream of blocks."""


@torch.no_grad()
def trace(model: Any, lengths: Sequence[int], run: Callable[[], Any]) -> list[Column]:
    """The stacks of a model.

    Args:
        model: in evaluation mode.
        lengths: tokens that each of its stacks reads: one number, or two for a model with encoder and decoder, in that order.
        run: runs the model on a few tokens and returns its output.

    Raises:
        NotTraced: no list of blocks hands one stream on.
    """
    rounding.set(ROUNDING.get(model.dtype, 0.03))
    calls, output = recorded(model, run)
    logits = getattr(output, "logits", None)
    chains = find_chains(model, calls)
    if len(chains) < len(lengths):
        raise NotTraced("no list of modules hands one stream of hidden states from each to the next")
    chosen = sorted(chains[: len(lengths)], key=lambda chain: chain.calls[0].enter)
    return [
        find_column(model, calls, chain, logits if chain is chosen[-1] else None, n)
        for chain, n in zip(chosen, lengths, strict=True)
    ]


@dataclass
class Chain:
    """A list of modules of which each gets what the one before it returned."""

    path: str
    """Of the list."""
    calls: list[Call]
    """One of each module."""
    size: int = field(default=0)
    """Number of its parameters."""


def find_chains(model: nn.Module, calls: Sequence[Call], rows: Tensor | None = None) -> list[Chain]:
    """The chains of a model, most parameters first, none within another.

    Args:
        model: whose modules were called.
        calls: during one pass.
        rows: Bool [T], tokens that blocks must hand on unchanged; others may be added to between two blocks. None: all.
    """
    by_module: dict[int, list[Call]] = {}
    for call in calls:
        by_module.setdefault(id(call.module), []).append(call)
    chains = []
    for path, module in model.named_modules():
        if not isinstance(module, (nn.ModuleList, nn.Sequential)) or not len(module):
            continue
        own = [by_module.get(id(child), []) for child in module]
        if any(len(of_child) != 1 for of_child in own):
            continue
        in_order = [of_child[0] for of_child in own]
        is_whole = in_order[0].x is not None and in_order[-1].y is not None
        if is_whole and all(_hands_on(a, b, rows) for a, b in itertools.pairwise(in_order)):
            chains.append(Chain(path, in_order, sum(p.numel() for p in module.parameters())))
    chains.sort(key=lambda chain: -chain.size)
    outermost: list[Chain] = []
    for chain in chains:
        if not any(chain.path.startswith(f"{outer.path}.") for outer in outermost):
            outermost.append(chain)
    return outermost


def _hands_on(a: Call, b: Call, rows: Tensor | None) -> bool:
    if a.exit > b.enter or a.y is None or b.x is None:
        return False
    if same(a.y, b.x):
        return True
    if rows is None or a.y.shape != b.x.shape or a.y.dim() != 3 or a.y.shape[1] != len(rows):
        return False
    return same(a.y[:, rows], b.x[:, rows])


def find_column(
    model: nn.Module, calls: Sequence[Call], chain: Chain, logits: Tensor | None, n_tokens: int
) -> Column:
    """A chain with the parts of its blocks and the way from its last block to the logits, or to what the stack returns.

    Raises:
        NotTraced: its stream is not one vector for each of so many tokens, or nothing around it is called with tokens.
    """
    parts = tuple(block_parts(call, _inside(calls, call)) for call in chain.calls)
    stream = chain.calls[0].x
    assert stream is not None
    if stream.numel() != n_tokens * stream.shape[-1]:
        raise NotTraced("its blocks read other tokens beside those of the text")
    ancestors = [
        call for call in calls
        if call.reads_ids and call.enter < chain.calls[0].enter and call.exit > chain.calls[-1].exit
    ]  # fmt: skip
    if not ancestors:
        raise NotTraced(f"nothing that holds {chain.path} is called with token ids")
    root = max(ancestors, key=lambda call: call.enter)
    norm, project, head, head_module, reason = _end(model, calls, chain.calls[-1], root, logits)
    reasons = tuple(dict.fromkeys(part.reason for part in parts if part.reason))
    return Column(
        chain.path,
        root.module,
        tuple(call.module for call in chain.calls),
        parts,
        norm,
        project,
        head,
        head_module,
        reasons + ((reason,) if reason else ()),
    )


def _inside(calls: Sequence[Call], outer: Call) -> list[Call]:
    return [call for call in calls if outer.enter < call.enter and call.exit < outer.exit]


# After the last block


def _end(
    model: Any, calls: Sequence[Call], last: Call, root: Call, logits: Tensor | None
) -> tuple[nn.Module | None, nn.Module | None, Head | None, nn.Module | None, str]:
    """Final norm, projection and head: the way from the last block to the logits, or to what the stack returns."""
    assert last.y is not None
    later = [call for call in calls if call.enter > last.exit and call.x is not None and call.y is not None]
    reading = [call for call in later if same(call.x, last.y)]
    embedding = model.get_output_embeddings() if logits is not None else None
    if embedding is None or logits is None:
        ends = [call for call in reading if call.exit < root.exit and is_norm(call.module)]
        return (ends[0].module if ends else None), None, None, None, ""
    target = logits.detach().float().cpu()
    own = [call for call in later if call.module is embedding]
    # Some heads do more than multiply: what holds the output embedding and gives the logits then stands for it.
    wider = [call for call in later if call.exit > own[-1].exit and call not in own] if own else []
    for head_call in (*own[-1:], *wider):
        assert head_call.x is not None and head_call.y is not None
        head = _head(head_call.y, target, model.config)
        if head is None:
            continue
        for norm, project in _ways(last, reading, [call for call in later if call.exit < head_call.enter]):
            factor = _leads(project or norm or last, head_call)
            if factor is not None:
                return (
                    None if norm is None else norm.module,
                    None if project is None else project.module,
                    Head(factor, head.scale_out, head.cap),
                    None if head_call.module is embedding else head_call.module,
                    "",
                )
    return (
        None,
        None,
        None,
        None,
        "the way from the last block to the logits is no norm, projection, factor or cap",
    )


def _leads(before: Call, head: Call) -> float | None:
    """What the output of a call is multiplied by before it enters the head; None where it does not lead there."""
    assert before.y is not None and head.x is not None
    width = before.y.shape[-1]
    if width != head.x.shape[-1]:
        return None
    entering = head.x.reshape(-1, width)
    return ratio(before.y.reshape(-1, width)[-len(entering) :], entering)  # some keep the last tokens alone


def _ways(
    last: Call, reading: Sequence[Call], later: Sequence[Call]
) -> Iterator[tuple[Call | None, Call | None]]:
    """Norm and projection that may stand between the last block and the output embedding, the plainest first."""
    yield None, None
    norms = [call for call in reading if call in later and is_norm(call.module)]
    for norm in norms:
        yield norm, None
    for project in reading:
        if project in later and not is_norm(project.module):
            yield None, project
    for norm in norms:
        assert norm.y is not None
        for project in later:
            if project.enter > norm.exit and project.x is not None and same(project.x, norm.y):
                yield norm, project


def _head(raw: Tensor, logits: Tensor, config: Any) -> Head | None:
    """What happens to the output of the output embedding before it is the logits."""
    raw = raw.reshape(-1, raw.shape[-1])
    logits = logits.reshape(-1, logits.shape[-1])
    if raw.shape != logits.shape:
        width = min(raw.shape[-1], logits.shape[-1])
        raw, logits = raw[-len(logits) :, :width], logits[:, :width]
        if raw.shape != logits.shape:
            return None
    factor = ratio(raw, logits)
    if factor is not None:
        return Head(scale_out=factor)
    for value in {v for v in _numbers(config) if v > 0}:
        for scaled in (1.0, value, 1 / value):
            for cap in _numbers(config):
                if cap > 0 and same(cap * torch.tanh(raw * scaled / cap), logits):
                    return Head(scale_out=scaled, cap=cap)
    return None


def _numbers(config: Any) -> set[float]:
    """Every fraction that a config names, its text config's too."""
    values: set[float] = set()
    for part in {id(c): c for c in (config, config.get_text_config())}.values():
        values |= {
            float(v)
            for v in part.to_dict().values()
            if isinstance(v, float) or (isinstance(v, int) and not isinstance(v, bool) and 0 < v < 1000)
        }
    return values
