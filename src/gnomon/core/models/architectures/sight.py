"""The parts of a vision-language model of any architecture, found in traced passes over two small images.

The language model's blocks are the last list of modules that hands one stream of all tokens on and leads to the logits; the
tower's are the first that ran before. The image tokens are those whose vectors differ between two images; the projector is the
module that returned these vectors. What does not add up is left out, and the reason is told.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gnomon.core.models.architectures.blocks import block_parts
from gnomon.core.models.architectures.calls import ROUNDING, Call, is_norm, recorded, rounding, same
from gnomon.core.models.architectures.parts import Seeing, base_of
from gnomon.core.models.architectures.sites import (
    VISION,
    Place,
    Site,
    Sites,
    Stack,
    traced_places,
)
from gnomon.core.models.architectures.trace import Chain, Column, NotTraced, find_chains, find_column
from gnomon.errors import ModelMismatch

log = logging.getLogger(__name__)

NO_TOKEN = -1
"""Id of the image tokens of a model that has none, because its blocks look at the image themselves."""

Inputs = Mapping[str, Tensor]

FAILURES = (TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError, AssertionError)
"""What a model raises when it is called in a way that it was not made for."""


@dataclass(frozen=True)
class _Pass:
    """One traced pass."""

    calls: list[Call]
    output: Any


@torch.no_grad()
def seen_sites(model: Any, named: int | None, placeholder: str, first: Inputs, second: Inputs) -> Sites:
    """The sites of a vision-language model without a table.

    Args:
        model: a transformers model, with or without adapters.
        named: the id of an image token by the config or the processor; None where neither names one.
        placeholder: what stands for an image in a prompt.
        first: one prompt with an image, as the processor made it.
        second: the same prompt with another image of the same size.

    Raises:
        ModelMismatch: the passes show no stream of blocks that leads to the logits.
    """
    root = base_of(model)
    training = root.training
    root.eval()
    token = rounding.set(ROUNDING.get(root.dtype, 0.03))
    try:
        if root.config.is_encoder_decoder:
            raise NotTraced("it has an encoder and a decoder, which are read for texts alone")
        sites = _seen(root, named, first, second)
        sites.sees = _how(root, placeholder)
        return sites
    except (NotTraced, *FAILURES) as error:
        raise ModelMismatch(
            f"The parts of {type(root).__name__} were not found in a traced pass over a small image: {str(error).splitlines()[0]}. "
            "Describe it in a table: --family FILE, or family=VLFamily(...)."
        ) from error
    finally:
        rounding.reset(token)
        root.train(training)


def _seen(model: Any, named: int | None, first: Inputs, second: Inputs) -> Sites:
    ids = first["input_ids"][0].cpu()
    if not torch.equal(ids, second["input_ids"][0].cpu()):
        raise NotTraced("two images of one size make different tokens")
    is_text = torch.ones_like(ids, dtype=torch.bool) if named is None else ids != named
    traced = _Pass(*recorded(model, lambda: model(**first, use_cache=False, output_hidden_states=True)))
    chain = _language(model, traced, is_text)
    column = find_column(model, traced.calls, chain, traced.output.logits, chain.calls[0].x.shape[1])  # type: ignore[union-attr]
    _check_states(traced, chain)
    missing = [f"language model: {reason}" for reason in column.reasons]
    embedded = _embedded(traced.calls, chain)
    other = entering(model, second, chain.calls[0].module)[0]
    differs = ((embedded[0] - other).abs() > 1e-6 * other.abs().mean()).any(-1)
    image_token = _image_token(named, ids, differs)
    places = dict(traced_places(column, ""))
    stacks = {}
    tower = _tower(model, traced.calls, chain)
    if tower is None:
        missing.append("vision: no list of modules hands one stream of image patches on")
    else:
        stacks[VISION] = Stack(model, tower.blocks, tower.final_norm, None)
        places = {f"{VISION}.{n}": where for n, where in traced_places(tower, VISION)} | places
        missing += [f"vision: {reason}" for reason in tower.reasons]
    if image_token == NO_TOKEN:
        missing.append("projector: its blocks look at the image themselves, and no token stands for it")
    else:
        projector = _projector(traced.calls, chain, tower, embedded[1][differs])
        if projector is None or not _matters(model, first, projector, chain.calls[0].module):
            missing.append("projector: no module returns what stands at the image tokens")
        else:
            places = {"projector": Place(projector, "out", VISION)} | places
    reader = _reader(model, traced.calls, chain)
    stacks[""] = Stack(
        reader,
        column.blocks,
        column.final_norm,
        column.project,
        head=column.head,
        head_module=column.head_module,
        head_is_unknown=column.head is None,
        embedding=model.get_input_embeddings(),
        image_token=image_token,
    )
    if missing:
        log.warning("%s has not all sites: %s.", type(model).__name__, "; ".join(missing))
    return Sites(_in_order(places), stacks, missing=missing)


def _in_order(places: Mapping[Site, Place]) -> dict[Site, Place]:
    """From the bottom to the top: the tower, the projector, the language model."""

    def rank(site: Site) -> int:
        return 0 if site.startswith(f"{VISION}.") else 1 if site == "projector" else 2

    return dict(sorted(places.items(), key=lambda item: rank(item[0])))


# The language model


def _language(model: nn.Module, traced: _Pass, is_text: Tensor) -> Chain:
    """The blocks of the language model."""
    n_tokens, logits = len(is_text), getattr(traced.output, "logits", None)
    if logits is None:
        raise NotTraced("its pass returns no logits")
    fitting = []
    for chain in find_chains(model, traced.calls, is_text):
        x = chain.calls[0].x
        # Some put the image's vectors in front of the text's: then the logits say how many tokens there are.
        if x is not None and x.dim() == 3 and x.shape[0] == 1 and x.shape[1] in (n_tokens, logits.shape[1]):
            fitting.append(chain)
    if not fitting:
        raise NotTraced("no list of modules hands one stream of all tokens from each to the next")
    return max(fitting, key=lambda chain: chain.calls[0].enter)


def _check_states(traced: _Pass, chain: Chain) -> None:
    """Whether the blocks return the hidden states that the library gives out, where it gives out as many.

    Raises:
        NotTraced: they do not.
    """
    states = getattr(traced.output, "hidden_states", None)
    if states is None or len(states) != len(chain.calls) + 1:
        return
    for call, state in zip(chain.calls[:-1], states[1:-1], strict=True):
        if not same(call.y, state.detach().float().cpu()):
            raise NotTraced(f"{call.path} does not return the hidden states that the library gives out")


def _embedded(calls: Sequence[Call], chain: Chain) -> tuple[Tensor, Tensor]:
    """What enters the first block, and the vectors of the tokens before positions are added to them; [T, D] each."""
    hidden = chain.calls[0].x
    assert hidden is not None
    vectors = [
        call.x for call in calls
        if call.reads_ids and call.enter < chain.calls[0].enter and call.exit > chain.calls[-1].exit
        and call.x is not None and call.x.shape == hidden.shape
    ]  # fmt: skip
    return hidden[0], (vectors[-1] if vectors else hidden)[0]


def _image_token(named: int | None, ids: Tensor, differs: Tensor) -> int:
    """The id of the tokens whose vectors come from the image."""
    if not differs.any():
        return NO_TOKEN
    if len(differs) != len(ids):
        raise NotTraced("the image's vectors stand beside the text's tokens and not in the place of some")
    of_image = set(ids[differs].tolist())
    if named is not None and of_image <= {named}:
        return named
    if len(of_image) > 1:
        raise NotTraced(f"vectors of the image stand at tokens of several ids ({sorted(of_image)[:4]})")
    return of_image.pop()


def _reader(model: nn.Module, calls: Sequence[Call], chain: Chain) -> nn.Module:
    """The outermost module below the model that is called with ids and runs the blocks: adapters call past the model itself."""
    around = [
        call for call in calls
        if call.reads_ids and call.enter < chain.calls[0].enter and call.exit > chain.calls[-1].exit
    ]  # fmt: skip
    inner = [call for call in around if call.module is not model]
    return min(inner or around, key=lambda call: call.enter).module


# The tower


def _tower(model: nn.Module, calls: Sequence[Call], language: Chain) -> Column | None:
    """The blocks that see the image: the first list of equal modules that hand a stream on, before the language model's blocks.

    Others may stand between the two: a Q-Former, a resampler.
    """
    first = language.calls[0].enter
    before = [
        chain for chain in find_chains(model, calls)
        if chain.calls[-1].exit < first and len(chain.calls) > 1 and _is_stream(chain)
    ]  # fmt: skip
    if not before:
        return None
    chain = min(before, key=lambda c: c.calls[0].enter)
    parts = tuple(
        block_parts(call, [inner for inner in calls if call.enter < inner.enter and inner.exit < call.exit])
        for call in chain.calls
    )
    last = chain.calls[-1]
    norm = next(
        (c for c in calls if last.exit < c.enter < first and is_norm(c.module) and same(c.x, last.y)), None
    )
    return Column(
        chain.path,
        model,
        tuple(call.module for call in chain.calls),
        parts,
        None if norm is None else norm.module,
        None,
        None,
        reasons=tuple(dict.fromkeys(part.reason for part in parts if part.reason)),
    )


def _is_stream(chain: Chain) -> bool:
    """Whether the modules are of one class and leave the shape as it is: blocks, and not the steps of an MLP."""
    shapes = {tensor.shape for call in chain.calls for tensor in (call.x, call.y) if tensor is not None}
    return len({type(call.module) for call in chain.calls}) == 1 and len(shapes) == 1


# Between them


def _projector(
    calls: Sequence[Call], language: Chain, tower: Column | None, vectors: Tensor
) -> nn.Module | None:
    """The outermost module behind the tower's blocks that returned the vectors of the image tokens, once."""
    blocks = set() if tower is None else {id(block) for block in tower.blocks}
    counts = {id(call.module): 0 for call in calls}
    for call in calls:
        counts[id(call.module)] += 1
    returned = [
        call for call in calls
        if call.exit < language.calls[0].enter and call.is_plain and call.y is not None
        and counts[id(call.module)] == 1 and _holds(call.y, vectors)
    ]  # fmt: skip
    behind = [c for c in returned if not blocks & {id(module) for module in c.module.modules()}]
    if not behind:
        return None
    return min(behind, key=lambda call: (call.path.count("."), call.enter)).module


def _holds(y: Tensor, vectors: Tensor) -> bool:
    """Whether all vectors [N, D] are among the rows of a tensor."""
    if y.shape[-1] != vectors.shape[-1]:
        return False
    rows = y.reshape(-1, y.shape[-1])
    if len(rows) < len(vectors):
        return False
    size = vectors.abs().mean()
    nearest = torch.cdist(vectors, rows, p=float("inf")).amin(1)
    return bool((nearest <= rounding.get() * size).all())


# Passes that end where the language model begins


class _Enough(Exception):
    """The first block was reached."""


@contextmanager
def _ending_at(block: nn.Module, states: list[Tensor]) -> Iterator[None]:
    def stop(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        states.append(hidden.detach().float().cpu())
        raise _Enough

    hook = block.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        yield
    except _Enough:
        pass
    finally:
        hook.remove()


@torch.no_grad()
def entering(model: Any, inputs: Inputs, block: nn.Module) -> Tensor:
    """What enters a block, the first of the language model, [B, T, D], on the CPU; the pass ends there."""
    states: list[Tensor] = []
    with _ending_at(block, states):
        model(**inputs, use_cache=False)
    return states[0]


def _matters(model: Any, inputs: Inputs, module: nn.Module, block: nn.Module) -> bool:
    """Whether another output of a module changes what enters the language model."""
    before = entering(model, inputs, block)

    def half(module: nn.Module, args: Any, output: Any) -> Any:
        if isinstance(output, Tensor):
            return output / 2
        return type(output)((output[0] / 2, *output[1:]))

    hook = module.register_forward_hook(half)
    try:
        after = entering(model, inputs, block)
    finally:
        hook.remove()
    return not same(before, after)


def _how(model: Any, placeholder: str) -> Seeing:
    """How it is called for a text alone."""
    vocab = model.get_input_embeddings().weight.shape[0]
    ids = torch.tensor([[(i + 1) * vocab // 8 for i in range(6)]], device=model.device)
    for path in dict.fromkeys(("", _head_parent(model))):
        module = model.get_submodule(path)
        try:
            output = module(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
        except FAILURES:
            continue
        if getattr(output, "logits", None) is not None:
            return Seeing(language=path, placeholder=placeholder, positions=None)
    return Seeing(needs_image=True, placeholder=placeholder, positions=None)


def _head_parent(model: Any) -> str:
    """The module that holds the output embedding."""
    head = model.get_output_embeddings()
    return next((path.rpartition(".")[0] for path, module in model.named_modules() if module is head), "")
