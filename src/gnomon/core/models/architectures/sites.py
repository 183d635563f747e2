"""Names for places in a model, found from one small table of its architecture, or else in one traced forward pass.

    embed            what enters the first block
    {i}.resid_pre    the residual stream before block i
    {i}.attn_out     what attention adds to it
    {i}.resid_mid    the stream between attention and MLP; none where both read the same stream
    {i}.mlp_out      what the MLP adds
    {i}.resid_post   the stream after block i
    final_norm       the last stream after the final norm; without one, the last stream itself

    vision.{i}.resid_post  the same in the vision tower of a vision-language model, whose language model has the plain names
    projector        what it hands over to the language model

A model with an encoder has all of these twice, as `encoder.3.resid_post` and `decoder.3.resid_post`, and `decoder.3.cross_out`
is what a decoder's block adds from the encoder. In every pre-norm family `embed` plus all that was added up to block i is
`i.resid_post`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn

from gnomon.core.models.architectures.parts import Family, Layout, Seeing, VLFamily, base_of
from gnomon.core.models.architectures.text import FAMILIES
from gnomon.core.models.architectures.trace import N_TOKENS, Column, Head, NotTraced, trace
from gnomon.core.models.architectures.vision import VLMS, image_token
from gnomon.errors import BadInput, ModelMismatch, nearest

log = logging.getLogger(__name__)

Site = str

VISION = "vision"
"""The stack that sees images; its texts are images (or tiles of them) and all of its tokens are real."""


@dataclass(frozen=True)
class Place:
    """A module and which of its tensors a site is."""

    module: nn.Module
    side: Literal["out", "in", "shared"] = "out"
    """`"shared"`: its input, which others read too and which therefore changes in place."""
    stack: str = ""
    """The stack it is in."""


@dataclass(frozen=True)
class Stack:
    """A column of blocks as it stands in one model."""

    root: nn.Module
    """What is called with token ids or embeddings and runs the blocks."""
    blocks: tuple[nn.Module, ...]
    """From the bottom to the top."""
    final_norm: nn.Module | None
    """The norm after them."""
    project: nn.Module | None
    """What comes between that norm and the output embedding."""
    head: Head | None = None
    """Factors and cap on the way to the logits, as measured; `None` where the config names them."""
    head_module: nn.Module | None = None
    """What makes logits of the normed state, where that is more than the output embedding."""
    head_is_unknown: bool = False
    """Whether that way could not be verified."""
    embedding: nn.Module | None = None
    """What turns token ids into vectors, where some of them stand for an image."""
    image_token: int | None = None
    """The id of those."""


class Sites(Mapping[Site, Place]):
    """The sites of one model, from the bottom to the top, its stacks by prefix, and how it sees images if it does."""

    def __init__(
        self,
        places: Mapping[Site, Place],
        stacks: Mapping[str, Stack],
        sees: Seeing | None = None,
        missing: Sequence[str] = (),
    ):
        self._places = dict(places)
        self.stacks = dict(stacks)
        self.sees = sees
        self.missing = tuple(missing)
        """What could not be verified, and why: such sites are left out."""

    def __getitem__(self, site: Site) -> Place:
        if site not in self._places:
            raise BadInput(f'The model has no site "{site}". {nearest(site, self._places)}')
        return self._places[site]

    def __contains__(self, site: object) -> bool:
        return site in self._places

    def __iter__(self) -> Iterator[Site]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    @property
    def top(self) -> Stack:
        """The stack that writes: the last of the table."""
        return list(self.stacks.values())[-1]


def find_sites(model: nn.Module, family: Layout | VLFamily | None = None) -> Sites:
    """The sites of a transformers model, adapters or not.

    Args:
        model: the model.
        family: where its parts are; `None` takes what `describe` noted, looks its `model_type` up in the tables, or else finds
            them in a traced pass.

    Raises:
        ModelMismatch: the parts are not to be found, or a path leads nowhere.
    """
    root = base_of(model)
    layout = family or vars(root).get(_DESCRIBED) or layout_of(root.config)
    if layout is None:
        return traced_sites(root)
    if isinstance(layout, VLFamily):
        seen, read = (_stack(root, part) for part in (layout.vision, layout.text))
        read = replace(read, embedding=root.get_input_embeddings(), image_token=image_token(root))
        places = {f"{VISION}.{name}": location for name, location in _places(seen, layout.vision, VISION)}
        places["projector"] = Place(_at(root, layout.projector), "out", VISION)
        return Sites(places | dict(_places(read, layout.text, "")), {VISION: seen, "": read}, layout)
    stacks, places = {}, {}
    for prefix, part in ({"": layout} if isinstance(layout, Family) else layout).items():
        stacks[prefix] = _stack(root, part)
        for name, location in _places(stacks[prefix], part, prefix):
            places[f"{prefix}.{name}" if prefix else name] = location
    return Sites(places, stacks)


_DESCRIBED = "_gnomon_layout"


def describe(model: nn.Module, family: Layout | VLFamily) -> None:
    """Note on a model where its parts are, for every later `find_sites` of it, of its copies and below adapters.

    Raises:
        ModelMismatch: a path leads nowhere.
    """
    find_sites(model, family)
    setattr(base_of(model), _DESCRIBED, family)


def traced_sites(model: Any) -> Sites:
    """The sites of a model without a table, from one traced forward pass; what does not add up is left out and logged.

    Raises:
        ModelMismatch: the pass shows no stream of blocks, or the model cannot read a text alone.
    """
    encodes = bool(model.config.is_encoder_decoder)
    training, device = model.training, next(model.parameters()).device
    embedding = model.get_input_embeddings()
    vocab = getattr(embedding, "weight", embedding).shape[0]
    # Spread over the vocabulary: special tokens mostly stand at its ends.
    ids = torch.tensor([[(i + 1) * vocab // (N_TOKENS + 2) for i in range(N_TOKENS)]], device=device)
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if encodes:
        inputs["decoder_input_ids"] = ids[:, 1:]
    if model.get_output_embeddings() is not None:
        inputs["use_cache"] = False
    lengths = [N_TOKENS, N_TOKENS - 1] if encodes else [N_TOKENS]
    model.eval()
    try:
        columns = trace(model, lengths, lambda: model(**inputs, return_dict=True))
    except (NotTraced, TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError) as error:
        raise ModelMismatch(f"{_unknown(model)} A traced pass did not find them: {error}.") from error
    finally:
        model.train(training)
    prefixes = ("encoder", "decoder") if encodes else ("",)
    if not encodes and model.get_output_embeddings() is None:
        prefixes = ("encoder",)
    stacks, places, missing = {}, {}, []
    for prefix, column in zip(prefixes, columns, strict=True):
        stacks[prefix] = Stack(
            column.root,
            column.blocks,
            column.final_norm,
            column.project,
            head=column.head,
            head_module=column.head_module,
            head_is_unknown=column.head is None,
        )
        for name, location in traced_places(column, prefix):
            places[f"{prefix}.{name}" if prefix else name] = location
        missing += [f"{prefix or 'model'}: {reason}" for reason in column.reasons]
    if missing:
        log.warning("%s has not all sites: %s.", type(model).__name__, "; ".join(missing))
    return Sites(places, stacks, missing=missing)


def traced_places(column: Column, prefix: str) -> Iterator[tuple[Site, Place]]:
    """The sites of a stack that a traced pass has shown, by their names without the prefix."""
    yield "embed", Place(column.blocks[0], "in", prefix)
    for i, (block, parts) in enumerate(zip(column.blocks, column.parts, strict=True)):
        yield f"{i}.resid_pre", Place(block, "in", prefix)
        for name in ("attn_out", "cross_out"):
            if (module := getattr(parts, name)) is not None:
                yield f"{i}.{name}", Place(module, "out", prefix)
        if parts.mid_into is not None:
            yield f"{i}.resid_mid", Place(parts.mid_into, "shared", prefix)
        elif parts.mid_from is not None:
            yield f"{i}.resid_mid", Place(parts.mid_from, "out", prefix)
        if parts.mlp_out is not None:
            yield f"{i}.mlp_out", Place(parts.mlp_out, "out", prefix)
        yield f"{i}.resid_post", Place(block, "out", prefix)
    yield "final_norm", Place(column.final_norm or column.blocks[-1], "out", prefix)


def _stack(root: nn.Module, family: Family) -> Stack:
    blocks = tuple(_at(root, family.blocks).children())
    if not blocks:
        raise ModelMismatch(f'"{family.blocks}" of {type(root).__name__} is no list of blocks: it is empty.')
    return Stack(
        root=_at(root, family.blocks.rpartition(".")[0] if family.reader is None else family.reader),
        blocks=blocks,
        final_norm=None if family.final_norm is None else _at(root, family.final_norm),
        project=None if family.project is None else _at(root, family.project),
    )


def _places(stack: Stack, family: Family, prefix: str) -> Iterator[tuple[Site, Place]]:
    yield "embed", Place(stack.blocks[0], "in", prefix)
    for i, block in enumerate(stack.blocks):
        yield f"{i}.resid_pre", Place(block, "in", prefix)
        yield f"{i}.attn_out", Place(_at(block, family.attn_out), "out", prefix)
        if family.cross_out is not None:
            yield f"{i}.cross_out", Place(_at(block, family.cross_out), "out", prefix)
        if family.mid_into is not None:
            yield f"{i}.resid_mid", Place(_at(block, family.mid_into), "shared", prefix)
        elif family.mid_from is not None:
            yield f"{i}.resid_mid", Place(_at(block, family.mid_from), "out", prefix)
        yield f"{i}.mlp_out", Place(_at(block, family.mlp_out), "out", prefix)
        yield f"{i}.resid_post", Place(block, "out", prefix)
    yield "final_norm", Place(stack.final_norm or stack.blocks[-1], "out", prefix)


def module_at(model: nn.Module, path: str) -> nn.Module:
    """The module at a path of the model without its adapters; the model itself at the empty one."""
    return _at(base_of(model) if path else model, path)


def _at(root: nn.Module, path: str) -> nn.Module:
    """The module at `path`; the error names the last part that exists and what it has."""
    module, name = root, type(root).__name__
    for part in filter(None, path.split(".")):
        children = dict(module.named_children())
        if part not in children:
            hint = nearest(part, children) if children else "It has none."
            raise ModelMismatch(f'{name} has no module "{part}", which a table names as "{path}". {hint}')
        module, name = children[part], f"{name}.{part}"
    return module


def _unknown(root: Any) -> str:
    """What could not be found, what was found instead, and how to describe it."""
    lists = [(name, m) for name, m in root.named_modules() if isinstance(m, nn.ModuleList) and len(m)]
    path, blocks = max(lists, key=lambda entry: len(entry[1]), default=("...", [nn.Identity()]))
    parts = ", ".join(name for name, _ in blocks[0].named_children()) or "..."
    sees = hasattr(root.config, "vision_config")
    tables = {**FAMILIES, **VLMS} if sees else FAMILIES
    advice = "It sees images: family=VLFamily(vision=Family(...), text=Family(...), ...). " if sees else ""
    return (
        f'No sites are known for models of type "{root.config.model_type}" ({type(root).__name__}). Describe it in one small '
        f'table: ModelHandle(model, tokenizer, family=Family(blocks="{path}", final_norm=..., attn_out=..., mlp_out=...)), '
        f"paths as in model.named_modules(); a block here has {parts}. {advice}Known: {', '.join(sorted(tables))}."
    )


def layout_of(config: Any) -> Layout | VLFamily | None:
    """The table of a model with this config; `None` for a type that is not known."""
    layout = FAMILIES.get(config.model_type) or VLMS.get(config.model_type)
    return layout(config) if callable(layout) else layout
