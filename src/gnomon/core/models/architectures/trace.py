"""The parts of a model of any architecture, found in one traced forward pass of a few tokens instead of in a table of names.

The blocks are the list of modules that hand one stream of hidden states on; what a block adds to it is whatever, added to its
input, gives its output. A part that does not add up on the traced tokens is not found, and the reason is told.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

N_TOKENS = 6
"""Tokens of the traced text: enough that no two tensors agree by chance."""

MOST_STEPS = 4
"""Most updates of the stream within a block that are looked for."""


@dataclass
class Call:
    """One call of one module."""

    path: str
    module: nn.Module
    enter: int
    """When it began, counted in calls and returns."""
    exit: int = 0
    """When it returned."""
    x: Tensor | None = None
    """Its first tensor of numbers, copied before the call: some modules change it."""
    y: Tensor | None = None
    """The first tensor that it returned, copied before anyone could change it."""
    reads_ids: bool = False
    """Whether it was called with token ids or their vectors."""
    reads_states: bool = False
    """Whether it was called with the states of an encoder."""


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
    _rounding.set(ROUNDING.get(model.dtype, 0.03))
    calls, output = _recorded(model, run)
    logits = getattr(output, "logits", None)
    chains = _chains(model, calls)
    if len(chains) < len(lengths):
        raise NotTraced("no list of modules hands one stream of hidden states from each to the next")
    chosen = sorted(chains[: len(lengths)], key=lambda chain: chain.calls[0].enter)
    return [
        _column(model, calls, chain, logits if chain is chosen[-1] else None, n)
        for chain, n in zip(chosen, lengths, strict=True)
    ]


def _recorded(model: nn.Module, run: Callable[[], Any]) -> tuple[list[Call], Any]:
    """Every call of every module, in the order in which they began, and what the model returned."""
    calls: list[Call] = []
    open_calls: list[Call] = []
    clock = itertools.count()
    hooks = []

    def begin(path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = Call(path, module, next(clock))
        call.x = _copied(_first((*args, kwargs.get("hidden_states"), *kwargs.values())))
        ids = args[0] if args else kwargs.get("input_ids")
        call.reads_ids = (
            isinstance(ids, Tensor) and not ids.is_floating_point() and ids.dim() == 2
        ) or kwargs.get("inputs_embeds") is not None
        states = kwargs.get("encoder_hidden_states", kwargs.get("key_value_states"))
        call.reads_states = isinstance(states, Tensor)
        calls.append(call)
        open_calls.append(call)

    def end(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        call = open_calls.pop()
        call.exit = next(clock)
        call.y = _copied(_first(_values(output)))

    try:
        for path, module in model.named_modules():
            hooks.append(
                module.register_forward_pre_hook(
                    lambda m, a, k, path=path: begin(path, m, a, k), with_kwargs=True
                )
            )
            hooks.append(module.register_forward_hook(end))
        output = run()
    finally:
        for hook in hooks:
            hook.remove()
    return calls, output


def _values(output: Any) -> Sequence[Any]:
    """What a module returned, one after another."""
    if isinstance(output, (tuple, list)):
        return output
    return tuple(output.values()) if isinstance(output, dict) else (output,)


def _first(values: Sequence[Any]) -> Tensor | None:
    return next((v for v in values if isinstance(v, Tensor) and v.is_floating_point() and v.dim() >= 2), None)


def _copied(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().float().cpu().clone()


@dataclass
class _Chain:
    path: str
    calls: list[Call]
    size: int = field(default=0)


def _chains(model: nn.Module, calls: Sequence[Call]) -> list[_Chain]:
    """Lists of modules of which each gets what the one before it returned; most parameters first, none within another."""
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
        if is_whole and all(_hands_on(a, b) for a, b in itertools.pairwise(in_order)):
            chains.append(_Chain(path, in_order, sum(p.numel() for p in module.parameters())))
    chains.sort(key=lambda chain: -chain.size)
    outermost: list[_Chain] = []
    for chain in chains:
        if not any(chain.path.startswith(f"{outer.path}.") for outer in outermost):
            outermost.append(chain)
    return outermost


def _hands_on(a: Call, b: Call) -> bool:
    return a.exit < b.enter and a.y is not None and b.x is not None and _same(a.y, b.x)


def _column(
    model: nn.Module, calls: Sequence[Call], chain: _Chain, logits: Tensor | None, n_tokens: int
) -> Column:
    parts = tuple(_parts(call, _inside(calls, call)) for call in chain.calls)
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


# Within a block


def _parts(block: Call, inner: Sequence[Call]) -> BlockParts:
    """What a block adds to its stream."""
    assert block.x is not None and block.y is not None
    pre, post = block.x, block.y
    updates = _updates(pre, inner)
    chain = _steps(pre, post, updates, inner, MOST_STEPS)
    if chain is not None:
        return _named(chain, inner)
    for a, b in itertools.combinations(updates, 2):  # both read the same stream
        if _same(pre + _like(a.y, pre) + _like(b.y, pre), post):
            mixer, other = _mixer_first(a, b)
            return BlockParts(attn_out=mixer.module, mlp_out=other.module)
    weighted = _weighted(pre, post, updates)
    if weighted is not None:
        (a, b), weights = weighted
        mixer, other = _mixer_first(a, b)
        return BlockParts(attn_out=mixer.module, mlp_out=other.module, weights=weights)
    return BlockParts(reason="what its modules return does not add up to what a block changes")


def _updates(pre: Tensor, inner: Sequence[Call]) -> list[Call]:
    """Calls that returned something of the stream's size; of those that returned the same, the outermost."""
    fitting = [call for call in inner if call.y is not None and call.y.numel() == pre.numel()]
    kept: list[Call] = []
    for call in sorted(fitting, key=lambda call: (call.path.count("."), call.exit)):
        if not any(_same(call.y, other.y) for other in kept):
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
    if _same(stream, post):
        return []
    if not left:
        return None
    for update in updates:
        summed = stream + _like(update.y, stream)
        later = [call for call in updates if call.exit > update.exit]
        if _same(summed, post):
            return [_Step(update, None, stream)]
        readers = [
            call for call in inner
            if call.enter > update.exit and _same(call.x, summed)
        ]  # fmt: skip
        if not readers:
            continue
        rest = _steps(summed, post, later, inner, left - 1)
        if rest is not None:
            return [_Step(update, None, stream), *rest]
        for reader in readers:  # a block that normalises after adding
            if reader.y is None or reader.y.numel() != summed.numel():
                continue
            normed = _like(reader.y, summed)
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
            if call.enter > steps[-2].update.exit and _same(call.x, last.before) and call is not steps[-2].norm
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
        columns = torch.stack(
            [base, _like(a.y, pre).flatten().double(), _like(b.y, pre).flatten().double()], 1
        )
        solution = torch.linalg.lstsq(columns, target[:, None]).solution
        if _same((columns @ solution).squeeze(1).float(), post.flatten()):
            weights = tuple(float(w) for w in solution.squeeze(1))
            if all(abs(w) > 1e-3 for w in weights):
                return (a, b), weights
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
        and _same(output.float().cpu(), call.y.flip(-2))
    )


# After the last block


def _end(
    model: Any, calls: Sequence[Call], last: Call, root: Call, logits: Tensor | None
) -> tuple[nn.Module | None, nn.Module | None, Head | None, nn.Module | None, str]:
    """Final norm, projection and head: the way from the last block to the logits, or to what the stack returns."""
    assert last.y is not None
    later = [call for call in calls if call.enter > last.exit and call.x is not None and call.y is not None]
    reading = [call for call in later if _same(call.x, last.y)]
    embedding = model.get_output_embeddings() if logits is not None else None
    if embedding is None or logits is None:
        ends = [call for call in reading if call.exit < root.exit and _is_norm(call.module)]
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
    return _ratio(before.y.reshape(-1, width)[-len(entering) :], entering)  # some keep the last tokens alone


def _ways(
    last: Call, reading: Sequence[Call], later: Sequence[Call]
) -> Iterator[tuple[Call | None, Call | None]]:
    """Norm and projection that may stand between the last block and the output embedding, the plainest first."""
    yield None, None
    norms = [call for call in reading if call in later and _is_norm(call.module)]
    for norm in norms:
        yield norm, None
    for project in reading:
        if project in later and not _is_norm(project.module):
            yield None, project
    for norm in norms:
        assert norm.y is not None
        for project in later:
            if project.enter > norm.exit and project.x is not None and _same(project.x, norm.y):
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
    factor = _ratio(raw, logits)
    if factor is not None:
        return Head(scale_out=factor)
    for value in {v for v in _numbers(config) if v > 0}:
        for scaled in (1.0, value, 1 / value):
            for cap in _numbers(config):
                if cap > 0 and _same(cap * torch.tanh(raw * scaled / cap), logits):
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


def _is_norm(module: nn.Module) -> bool:
    """Whether a module has no weights but one or two per feature: it normalises."""
    return all(parameter.dim() <= 1 for parameter in module.parameters())


def _ratio(a: Tensor, b: Tensor) -> float | None:
    """The number that `a` is multiplied by to give `b`; None where there is none."""
    if a.numel() != b.numel():
        return None
    a, b = a.flatten(), b.flatten()
    square = float(a.double() @ a.double())
    if not square:
        return None
    factor = float(a.double() @ b.double()) / square
    if not _same(a * factor, b):
        return None
    return 1.0 if abs(factor - 1) < 1e-4 else factor


def _like(tensor: Tensor | None, other: Tensor) -> Tensor:
    assert tensor is not None
    return tensor.reshape(other.shape)


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    """Whether two tensors agree up to rounding, in reading order."""
    if a is None or b is None or a.numel() != b.numel():
        return False
    a = a if a.shape == b.shape else a.reshape(b.shape)
    size = b.abs()
    share = _rounding.get()
    return bool(size.mean() > 0) and bool(((a - b).abs() <= share * (size.mean() + size)).all())


_rounding: ContextVar[float] = ContextVar("_rounding", default=1e-3)
"""Largest difference of numbers that are taken for the same, as a share of their size and of the mean size."""

ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-6}
"""By type of the weights; 16-bit sums agree to about two digits."""
