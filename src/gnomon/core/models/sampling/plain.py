"""Generation from whatever a caller has: a handle, or a plain model with its tokenizer or processor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gnomon.core.models.handle import ModelHandle, as_handle
from gnomon.core.models.reading import unpack
from gnomon.core.models.sampling.generate import generate as _generate

if TYPE_CHECKING:
    from gnomon.core.models.sampling.config import GenConfig
    from gnomon.core.models.sampling.generate import Completion, More
    from gnomon.core.models.sampling.sampler import Watch
    from gnomon.core.rng import Rng


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str | Sequence[int]],
    gen: GenConfig,
    *,
    generator: Rng | Sequence[Rng],
    images: Sequence[Any] | None = None,
    watch: Watch | None = None,
    more: More | None = None,
) -> list[list[Completion]]:
    """`gen.n` completions of each prompt, or more on demand, from a handle or from a plain model of any type that writes text.

    Args:
        model: a causal, sequence-to-sequence or vision-language transformers model, or a `ModelHandle`.
        tokenizer: its tokenizer, or its processor if the prompts have images; `None` with a handle.
        prompts: texts, encoded as the tokenizer does by default, or token ids, taken as they are.
        gen: how to sample.
        generator: as for `gnomon.core.models.sampling.generate`.
        images: per prompt an image or a list of them, as for `ModelHandle.encode`; the prompts are then texts.
        watch: called after each token of a batch; may end rows.
        more: asked for further samples of a prompt, as there.

    Raises:
        BadInput: a prompt is empty or fills all positions of the model; not one generator per prompt; an image cannot be
            read or has no place in its prompt.
        ModelMismatch: the model writes no text.
    """
    if isinstance(model, ModelHandle) or images is not None:
        handle = as_handle(model, tokenizer)
        return handle.generate(prompts, gen, generator=generator, images=images, watch=watch, more=more)
    return _generate(*unpack(model, tokenizer), prompts, gen, generator=generator, watch=watch, more=more)
