"""Names for places in a model: one table from architecture to module paths.

    embed            what enters the first block
    {i}.attn_out     what attention adds to the residual stream in block i
    {i}.mlp_out      what the MLP adds
    {i}.resid_post   the residual stream after block i
    final_norm       the last residual stream after the final norm

So in every pre-norm family `embed` plus all `attn_out` and `mlp_out` up to block i is `i.resid_post`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gnomon.errors import BadInput, ModelMismatch, nearest

if TYPE_CHECKING:
    from torch import nn

Site = str


@dataclass(frozen=True)
class Family:
    """Where an architecture keeps its parts, as module paths; those of a block are relative to it."""

    blocks: str
    """The list of blocks."""
    final_norm: str
    """The norm before the output embedding."""
    attn_out: str
    """Within a block, the module whose output attention adds to the residual stream."""
    mlp_out: str
    """Within a block, the module whose output the MLP adds."""


_LLAMA = Family("model.layers", "model.norm", "self_attn", "mlp")

# model_type of the config -> paths
FAMILIES: dict[str, Family] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "olmo": _LLAMA,
    "phi3": _LLAMA,
    # Gemma 2 normalises what attention and MLP return before it adds them.
    "gemma2": Family("model.layers", "model.norm", "post_attention_layernorm", "post_feedforward_layernorm"),
    "gpt2": Family("transformer.h", "transformer.ln_f", "attn", "mlp"),
}


@dataclass(frozen=True)
class Place:
    """A module and which side of it a site is."""

    module: nn.Module
    is_input: bool = False


class Sites(Mapping[Site, Place]):
    """The sites of one model, from the bottom to the top."""

    def __init__(self, places: Mapping[Site, Place]):
        self._places = dict(places)

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


def find_sites(model: nn.Module, family: Family | None = None) -> Sites:
    """The sites of a transformers model, adapters or not.

    Args:
        model: the model.
        family: where its parts are; `None` looks its `model_type` up in `FAMILIES`.

    Raises:
        ModelMismatch: the family is not in the table, or a path leads nowhere.
    """
    root: Any = model
    if hasattr(root, "get_base_model"):
        root = root.get_base_model()
    family = family or FAMILIES.get(root.config.model_type)
    if family is None:
        raise ModelMismatch(
            f'No sites are known for models of type "{root.config.model_type}" ({type(root).__name__}). '
            'Describe it: ModelHandle(model, tokenizer, family=Family(blocks="model.layers", '
            'final_norm="model.norm", attn_out="self_attn", mlp_out="mlp")). '
            f"Known: {', '.join(sorted(FAMILIES))}."
        )
    blocks = list(_at(root, family.blocks).children())
    places = {"embed": Place(blocks[0], is_input=True)}
    for i, block in enumerate(blocks):
        places[f"{i}.attn_out"] = Place(_at(block, family.attn_out))
        places[f"{i}.mlp_out"] = Place(_at(block, family.mlp_out))
        places[f"{i}.resid_post"] = Place(block)
    places["final_norm"] = Place(_at(root, family.final_norm))
    return Sites(places)


def _at(root: nn.Module, path: str) -> nn.Module:
    try:
        return root.get_submodule(path)
    except AttributeError as error:
        have = ", ".join(name for name, _ in root.named_children())
        raise ModelMismatch(f'{type(root).__name__} has no module "{path}"; it has {have}.') from error
