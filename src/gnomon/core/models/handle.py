"""A handle on a model: the transformers model as it is, its places by name, hooks that never stay behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from gnomon.core.finite import check_states
from gnomon.core.models.architectures.measure import measured_grid
from gnomon.core.models.architectures.parts import Grid, Layout, Seeing, VLFamily, base_of
from gnomon.core.models.architectures.sight import seen_sites
from gnomon.core.models.architectures.sites import (
    VISION,
    Site,
    Sites,
    find_sites,
    layout_of,
    module_at,
)
from gnomon.core.models.architectures.vision import read_family
from gnomon.core.models.batch import Batch, Where, pad, pad_texts
from gnomon.core.models.hooks import Edit, StepInfo, check_lens, head_logits, hooked
from gnomon.core.models.images.pieces import Piece, see_each
from gnomon.core.models.images.processors import load_processor
from gnomon.core.models.images.seen import (
    SeenText,
    have_images,
    open_images,
    put_together,
    question,
    samples,
    see_text,
)
from gnomon.core.models.load import LoadConfig, kind_of, load_model, load_tokenizer
from gnomon.core.models.reading import text_kind, unpack
from gnomon.core.models.sampling.decoding import (
    Decoding,
    last_logits_only,
    read_images,
    read_prompts,
    start_token,
)
from gnomon.core.models.sampling.generate import Reader
from gnomon.core.models.sampling.generate import generate as _generate
from gnomon.core.models.sampling.likelihood import token_logprobs
from gnomon.core.models.sampling.text import padding_id
from gnomon.errors import BadInput, ModelMismatch

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from gnomon.core.models.sampling.config import GenConfig
    from gnomon.core.models.sampling.generate import Completion, More
    from gnomon.core.models.sampling.sampler import Watch
    from gnomon.core.rng import Rng


class ModelHandle:
    """A text model with its tokenizer, or a vision-language model with its processor.

    Args:
        model: a transformers model, with or without adapters.
        processor: its tokenizer; of a vision-language model its processor.
        family: where its parts are; `None` looks that up by the model's type, or finds it in a traced pass when a site is first
            needed. A table given here is checked on one token.

    Raises:
        ModelMismatch: the model sees and its type is not known, or the table does not fit it.
    """

    def __init__(self, model: PreTrainedModel, processor: Any, *, family: Layout | VLFamily | None = None):
        self.model = model
        self.processor = processor
        table = family if family is not None else layout_of(base_of(model).config)
        sees = isinstance(table, VLFamily) or (table is None and hasattr(processor, "image_processor"))
        self.kind = "vlm" if sees else text_kind(model)
        if family is not None or isinstance(table, VLFamily):
            self.sites = find_sites(model, family)
        if family is not None and self.kind != "encoder":
            check_lens(self)

    @classmethod
    def load(
        cls,
        ref: str | Path,
        load: LoadConfig | None = None,
        *,
        kind: str | None = None,
        family: Path | None = None,
        **options: Any,
    ) -> ModelHandle:
        """The handle on what `load_model` loads; `kind=None` takes what is there, `family` is a file for `read_family`."""
        load = replace(load or LoadConfig(), **options)
        kind = kind or kind_of(ref, revision=load.revision)
        model, sees = load_model(ref, load, kind=kind), kind == "vlm"
        processor = load_processor(ref, revision=load.revision) if sees else load_tokenizer(ref, load)
        return cls(model, processor, family=read_family(family) if family else None)

    @cached_property
    def sites(self) -> Sites:
        """Where its hidden states are; found on first use, since much can be done without."""
        if self.kind != "vlm":
            return find_sites(self.model)
        return seen_sites(self.model, *samples(base_of(self.model), self.processor))

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer: the processor itself in a text model, a part of it in one that sees."""
        return getattr(self.processor, "tokenizer", self.processor)

    def prompt(self, text: str, images: int = 1) -> str:
        """`text` in the form in which the model was taught to answer, with a place for each of so many images.

        By the processor's chat template, or the family's plain form where it has none.

        Raises:
            ModelMismatch: the model sees no images.
        """
        return question(self.processor, self._sees(), text, images)

    def encode(
        self,
        texts: Sequence[str],
        targets: Sequence[str] | None = None,
        *,
        images: Sequence[Any] | None = None,
        side: str = "left",
    ) -> Batch:
        """`texts` as a batch on the model's device.

        Args:
            texts: what the model reads.
            targets: what the decoder of a sequence-to-sequence model has written, one per text; `None` for nothing yet.
            images: per text an image or a list of them (PIL images or paths), for a vision-language model; their places in a
                text are the processor's image tokens, as `prompt` writes them. `None` for texts alone.
            side: where to pad `texts`.

        Raises:
            BadInput: a text has no token, targets do not go with the texts or the model, an image cannot be read, or a
                text has not as many places as images.
            ModelMismatch: the model sees no images.
        """
        if images is not None:
            return self.gather(self.see(texts, images), side=side)
        rows = self.tokenizer(list(texts))["input_ids"]
        for i, row in enumerate(rows):
            if not row:
                raise BadInput(f"Text {i} has no tokens. Leave empty texts out.")
        if targets is not None and (self.kind != "seq2seq" or len(targets) != len(rows)):
            raise BadInput(
                f"{len(rows)} texts and {len(targets)} targets for a {self.kind} model: "
                "only a sequence-to-sequence model takes targets, one per text."
            )
        batch = self.pad(rows, side=side)
        if self.kind == "seq2seq":
            written = [[]] * len(rows) if targets is None else self.tokenizer(list(targets))["input_ids"]
            start = start_token(self.model)
            target = pad([[start, *row] for row in written], padding_id(self.tokenizer), "right")
            batch = Batch(batch.input_ids, batch.mask, target)
        return batch.to(self.model.device)

    def see(
        self, texts: Sequence[str] | Sequence[Sequence[Piece]], images: Sequence[Any] | None = None
    ) -> list[SeenText]:
        """Each text with its images, processed by itself; `gather` makes a batch of some. Errors are those of `encode`.

        Args:
            texts: with the processor's image tokens where images go; or, without `images`, pieces of each text in reading order,
                see `gnomon.core.models.images.see_pieces`: there nothing that a text says is taken for an image or an end.
            images: per text one image or a list of them.
        """
        if images is None:
            return see_each(self.processor, self.model.config, self._sees, texts)
        sees = self._sees()
        if sees.lay_out is None and self._grid is not None:
            sees = replace(sees, grid=self._grid)
        return self._see(sees, texts, open_images(images, len(texts)))  # type: ignore[arg-type]

    def show(self, pictures: Sequence[Any]) -> list[SeenText]:
        """Pictures with one word each, as `see` makes them, their tokens counted and not laid out."""
        prompt = self.prompt("a")
        return self._see(self._sees(), [prompt] * len(pictures), [[picture] for picture in pictures])

    def _see(self, sees: Seeing, texts: Sequence[str], opened: Sequence[Sequence[Any]]) -> list[SeenText]:
        token = self.sites.top.image_token
        assert token is not None
        return [
            see_text(self.processor, self.model.config, sees, token, text, shown, f"Text {i}")
            for i, (text, shown) in enumerate(zip(texts, opened, strict=True))
        ]

    @cached_property
    def _grid(self) -> Grid | None:
        """Where image tokens lie, measured when the first image is shown."""
        return measured_grid(self)

    def gather(self, seen: Sequence[SeenText], *, side: str = "left") -> Batch:
        """Processed texts as a batch on the model's device: all of them with images, or none.

        Raises:
            BadInput: some have images and some have none.
        """
        if not have_images(seen):
            return self.pad([text.ids for text in seen], side=side).to(self.model.device)
        batch = pad([text.ids for text in seen], padding_id(self.tokenizer), side)
        token = self.sites.top.image_token
        assert token is not None
        images = put_together(seen, batch.input_ids, batch.mask, token, self.model.dtype)
        return Batch(batch.input_ids, batch.mask, None, images).to(self.model.device)

    @torch.no_grad()
    def logits(self, batch: Batch) -> Float[Tensor, "B T V"]:
        """The model's logits at every token, of `batch.target` if it has one; those at padding mean nothing.

        Raises:
            ModelMismatch: the model has no output embedding.
        """
        if self.kind == "encoder":
            raise ModelMismatch(
                f"{type(self.model).__name__} has no output embedding and predicts no tokens."
            )
        output: Any = self._reads(batch)(**batch.inputs(self.kind, self.model), use_cache=False)
        return output.logits

    def logprobs(self, batch: Batch) -> Float[Tensor, "B T"]:
        """Log-probability (nats) of each token (of `batch.target` if there is one) given those before; 0 at first and padding."""
        read, inputs = batch.target or batch, batch.inputs(self.kind, self.model)
        logprobs = token_logprobs(self._reads(batch), inputs, read.input_ids)
        is_scored = read.mask[:, 1:] & read.mask[:, :-1]
        return logprobs.where(torch.nn.functional.pad(is_scored, (1, 0)), 0.0)

    @torch.no_grad()
    def capture(self, batch: Batch, at: Sequence[Site], *, where: Where = "all") -> dict[Site, Tensor]:
        """Hidden states at the named sites; nothing but the wanted ones outlives its block.

        Args:
            batch: the texts.
            at: names from `sites`.
            where: `"all"` for every token, `"last"` for each text's last token, positions per text ([B, P], from 0, negative
                from the end), or a mask [B, T]. At sites of a decoder it is about `batch.target`; `batch.image_mask` picks
                the image tokens. At `projector` and `vision` sites only `"all"`: [images, T, D], or the images in a row.

        Returns:
            Site -> [B, T, D], [B, D] for `"last"`, [B, P, D] for positions, [N, D] in reading order for a mask.

        Raises:
            BadInput: the model has no such site, or a text no such position; or the batch has no images for a site
                that sees. ModelMismatch: a state is not finite.
        """
        if not at:
            return {}
        stacks = {self.sites[site].stack for site in at}
        if VISION in stacks and (
            batch.images is None or not batch.pixels or not isinstance(where, str) or where != "all"
        ):
            raise BadInput(
                "The vision tower and the projector see images, not texts: give the batch images and leave where at "
                '"all".'
            )
        picks = {stack: self._read_by(stack, batch).index(where) for stack in stacks}
        seen: dict[Site, Tensor] = {}

        def keep(site: Site, hidden: Tensor, step: StepInfo) -> None:
            pick = picks[self.sites[site].stack]
            here = None if pick is None else tuple(index.to(hidden.device) for index in pick)
            seen[site] = (
                hidden.clone() if here is None else hidden[here]
            )  # a copy: some blocks add to it later

        with hooked(self.sites, {site: partial(keep, site) for site in at}):
            if stacks <= {"encoder"}:
                self.sites.stacks["encoder"].root(**batch.inputs("encoder"))
            else:
                reads = self._reads(batch)
                reads(**(batch.inputs(self.kind, self.model) | last_logits_only(reads)), use_cache=False)
        if skipped := [site for site in at if site not in seen]:
            raise BadInput(f"This pass does not run the blocks of {', '.join(skipped)}: they look at images.")
        masks = {site: self._read_by(self.sites[site].stack, batch).mask for site in at}
        return check_states({site: seen[site] for site in at}, masks, self.model)

    @contextmanager
    def edit(self, edits: Mapping[Site, Edit]) -> Iterator[None]:
        """Inside the `with`, hidden states at the named sites pass through the edits, also during `generate`.

        Every hook is gone on exit, after an exception too. Edits by position use `StepInfo.positions`: while generating, a
        call sees only the newest token; edits by text use `StepInfo.rows`, since `generate` sorts its prompts.

        Raises:
            BadInput: the model has no such site.
        """
        with hooked(self.sites, edits):
            yield

    @torch.no_grad()
    def lens(self, hidden: Float[Tensor, "*N D"], *, normed: bool = False) -> Float[Tensor, "*N V"]:
        """What hidden states would predict if they were the last: their logits through the model's own head.

        Args:
            hidden: residual stream at any block; of the decoder where there are two stacks.
            normed: True when it has passed the final norm already, as at the site `final_norm`.
        """
        return head_logits(self.model, self.sites, hidden, normed=normed)

    def generate(
        self,
        prompts: Sequence[str | Sequence[int]],
        gen: GenConfig,
        *,
        generator: Rng | Sequence[Rng],
        images: Sequence[Any] | None = None,
        watch: Watch | None = None,
        more: More | None = None,
    ) -> list[list[Completion]]:
        """`gen.n` completions of each prompt; see `gnomon.core.models.sampling.generate`.

        Raises:
            BadInput: as there; or an image cannot be read or has no place in its prompt.
        """
        seen = None if images is None else self.see([str(prompt) for prompt in prompts], images)

        def read(ids: Sequence[Sequence[int]], places: Sequence[int]) -> Decoding:
            def again(i: int, more: Sequence[int]) -> Batch:
                if seen is None:
                    return self.pad([[*ids[i], *more]]).to(self.model.device)
                return self.gather([seen[places[i]].longer(more)])

            batch = self.gather([seen[i] for i in places]) if seen else self.pad(ids).to(self.model.device)
            if seen is None and self._sees().positions is None:
                return read_prompts(self._reads(batch), ids, places, padding_id(self.tokenizer))
            return read_images(self.model, self._sees(), batch, places, again)

        return _generate(
            self.model,
            self.tokenizer,
            prompts,
            gen,
            generator=generator,
            reader=Reader(read, seen) if self.kind == "vlm" else None,
            watch=watch,
            more=more,
        )

    def pad(self, rows: Sequence[Sequence[int]], *, side: str = "left") -> Batch:
        """Token ids of texts alone as a batch on the CPU."""
        return pad_texts(rows, padding_id(self.tokenizer), side, self._how)

    @property
    def _how(self) -> Seeing | None:
        """How the model sees; `None` for one that reads texts alone."""
        return self.sites.sees if self.kind == "vlm" else None

    def _sees(self) -> Seeing:
        """How the model sees."""
        if self._how is None or not hasattr(self.processor, "image_processor"):
            raise ModelMismatch(
                f"{type(self.model).__name__} came as a {self.kind} model with a {type(self.processor).__name__}; images "
                "need a vision-language model and its processor."
            )
        return self._how

    def _reads(self, batch: Batch) -> Any:
        """What is called with a batch: the whole model, unless that insists on an image and there is none."""
        sees = self._how
        if sees is not None and sees.needs_image and batch.images is None:
            raise ModelMismatch(
                f"{type(self.model).__name__} reads no text without an image. Give it images."
            )
        return self.model if sees is None or batch.images else module_at(self.model, sees.language)

    def _read_by(self, stack: str, batch: Batch) -> Batch:
        """The tokens that a stack reads."""
        if stack != "decoder":
            return batch
        if batch.target is None:
            raise BadInput(
                "The batch has no target for the decoder to read. Make it with handle.encode(texts, targets)."
            )
        return batch.target


def as_handle(model: Any, tokenizer: Any = None) -> ModelHandle:
    """The handle on a plain transformers model and its tokenizer or processor; a handle is returned as it is.

    Raises:
        BadInput: a plain model came without a tokenizer.
        ModelMismatch: the model's type is not known.
    """
    return model if isinstance(model, ModelHandle) else ModelHandle(*unpack(model, tokenizer))
