"""A handle on a model: the transformers model as it is, its places by name, hooks that never stay behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gnomon.core.models.batch import Batch, pad, positions_of
from gnomon.core.models.load import load_model, load_tokenizer
from gnomon.core.models.sites import Family, Place, Site, find_sites
from gnomon.core.models.text import padding_id
from gnomon.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from gnomon.core.models.config import GenConfig
    from gnomon.core.models.generation import Completion, Watch
    from gnomon.core.rng import Rng


@dataclass(frozen=True)
class StepInfo:
    """Which tokens an edit is looking at."""

    positions: Int[Tensor, "B T"]
    """Position of each token in its text, from 0; while generating, the new token's true position."""
    mask: Bool[Tensor, "B T"]
    """True at real tokens, False at padding."""


Edit = Callable[[Tensor, StepInfo], Tensor]
"""Hidden states [B, T, D] and where they are -> hidden states [B, T, D]."""


class ModelHandle:
    """A causal model with its tokenizer.

    Args:
        model: a transformers model, with or without adapters.
        processor: its tokenizer.
        family: where its parts are; `None` looks that up by the model's type.
    """

    def __init__(
        self, model: PreTrainedModel, processor: PreTrainedTokenizerBase, *, family: Family | None = None
    ):
        self.model = model
        self.processor = processor
        self.kind = "causal"
        self.sites = find_sites(model, family)

    @classmethod
    def load(
        cls,
        ref: str | Path,
        *,
        kind: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        revision: str | None = None,
    ) -> ModelHandle:
        """The handle on the model at `ref`; arguments and errors are those of `load_model`."""
        model = load_model(ref, kind=kind or "causal", device=device, dtype=dtype, revision=revision)
        return cls(model, load_tokenizer(ref, revision=revision))

    def encode(self, texts: Sequence[str], *, side: str = "left") -> Batch:
        """`texts` as a batch on the model's device.

        Raises:
            BadInput: a text has no token.
        """
        rows = self.processor(list(texts))["input_ids"]
        for i, row in enumerate(rows):
            if not row:
                raise BadInput(f"Text {i} has no tokens. Leave empty texts out.")
        return pad(rows, padding_id(self.processor), side).to(self.model.device)

    @torch.no_grad()
    def logits(self, batch: Batch) -> Float[Tensor, "B T V"]:
        """The model's logits at every token; those at padding mean nothing."""
        return self.model(**batch.inputs(), use_cache=False).logits

    def logprobs(self, batch: Batch) -> Float[Tensor, "B T"]:
        """Log-probability (nats) of each token given those before it; 0 at first tokens and at padding."""
        logits = self.logits(batch)[:, :-1].float()
        found = torch.log_softmax(logits, -1).gather(-1, batch.input_ids[:, 1:, None]).squeeze(-1)
        is_scored = batch.mask[:, 1:] & batch.mask[:, :-1]
        return torch.nn.functional.pad(found.where(is_scored, 0.0), (1, 0))

    @torch.no_grad()
    def capture(self, batch: Batch, at: Sequence[Site], *, where: str = "all") -> dict[Site, Tensor]:
        """Hidden states at the named sites.

        Args:
            batch: the texts.
            at: names from `sites`.
            where: `"all"` for every token, `"last"` for each text's last token.

        Returns:
            Site -> [B, T, D], or [B, D] for `"last"`.

        Raises:
            BadInput: the model has no such site, or `where` is neither.
        """
        if where not in ("all", "last"):
            raise BadInput(f'where must be "all" or "last"; got "{where}".')
        seen: dict[Site, Tensor] = {}

        with ExitStack() as hooks:
            for site in at:
                hooks.enter_context(hooked(self.sites[site], partial(seen.__setitem__, site)))
            self.model(**batch.inputs(), use_cache=False, logits_to_keep=1)
        if where == "all":
            return seen
        order = torch.arange(batch.mask.shape[1], device=batch.mask.device)
        last = (order * batch.mask).argmax(-1)
        rows = torch.arange(len(last), device=last.device)
        return {site: hidden[rows, last] for site, hidden in seen.items()}

    @contextmanager
    def edit(self, edits: Mapping[Site, Edit]) -> Iterator[None]:
        """Inside the `with`, hidden states at the named sites pass through the edits, also during `generate`.

        Every hook is gone on exit, after an exception too. Edits by position use `StepInfo.positions`: while
        generating, a call sees only the newest token.

        Raises:
            BadInput: the model has no such site.
        """
        steps = _StepReader()
        with ExitStack() as hooks:
            reader = self.model.register_forward_pre_hook(steps, with_kwargs=True)
            hooks.callback(reader.remove)
            for site, edit in edits.items():
                hooks.enter_context(hooked(self.sites[site], partial(steps.apply, edit)))
            yield

    @torch.no_grad()
    def lens(self, hidden: Float[Tensor, "*N D"], *, normed: bool = False) -> Float[Tensor, "*N V"]:
        """What hidden states would predict if they were the last: their logits through the model's own head.

        Args:
            hidden: residual stream at any block.
            normed: True when it has passed the final norm already, as at the site `final_norm`.
        """
        if not normed:
            hidden = self.sites["final_norm"].module(hidden)
        logits = self.model.get_output_embeddings()(hidden)
        cap = getattr(self.model.config, "final_logit_softcapping", None)
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def generate(
        self, prompts: Sequence[str], gen: GenConfig, *, generator: Rng, watch: Watch | None = None
    ) -> list[list[Completion]]:
        """`gen.n` completions of each prompt; see `gnomon.core.models.generation`."""
        from gnomon.core.models.generation import generate

        return generate(self, None, prompts, gen, generator=generator, watch=watch)


def unpack(model: Any, tokenizer: Any) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The transformers model and tokenizer, from a handle or as they were given.

    Raises:
        BadInput: a plain model came without a tokenizer.
    """
    if isinstance(model, ModelHandle):
        return model.model, tokenizer or model.processor
    if tokenizer is None:
        raise BadInput(
            f"A plain {type(model).__name__} needs its tokenizer beside it; or give a ModelHandle."
        )
    return model, tokenizer


@contextmanager
def hooked(place: Place, see: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """Inside the `with`, `see` gets the hidden states at `place`; what it returns replaces them."""

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            new = see(args[0])
            return None if new is None else ((new, *args[1:]), kwargs)
        new = see(kwargs["hidden_states"])
        return None if new is None else (args, {**kwargs, "hidden_states": new})

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        is_tuple = isinstance(output, tuple)
        new = see(output[0] if is_tuple else output)
        return None if new is None else (new, *output[1:]) if is_tuple else new

    if place.is_input:
        hook = place.module.register_forward_pre_hook(before, with_kwargs=True)
    else:
        hook = place.module.register_forward_hook(after)
    try:
        yield
    finally:
        hook.remove()


class _StepReader:
    """Reads from the model's own arguments which tokens a forward pass is about."""

    info: StepInfo

    def apply(self, edit: Edit, hidden: Tensor) -> Tensor:
        return edit(hidden, self.info)

    def __call__(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = args[0] if args else kwargs["input_ids"]
        width = ids.shape[1]
        mask, positions = kwargs.get("attention_mask"), kwargs.get("position_ids")
        cache = kwargs.get("past_key_values")
        if mask is None:
            before = 0 if cache is None else cache.get_seq_length()
            mask = torch.ones(ids.shape[0], before + width, dtype=torch.bool, device=ids.device)
        if positions is None:
            positions = positions_of(mask.bool())[:, -width:]
        self.info = StepInfo(positions.expand_as(ids), mask.bool()[:, -width:])
