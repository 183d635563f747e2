"""What a causal model does with positions, padding and caches, asked of the model itself: by tiny passes, once for each model."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from gnomon.core.models.architectures.parts import base_of
from gnomon.core.models.architectures.text import FAMILIES
from gnomon.core.models.sampling.config import GenConfig
from gnomon.errors import BadInput

log = logging.getLogger(__name__)

T = TypeVar("T")

LONG, SHORT = 6, 2
"""Tokens of the two texts that are read."""

_positions: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
_padding: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
_caches: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
_slow: WeakSet[Any] = WeakSet()
_ignored: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()


def text_kind(model: Any) -> str:
    """causal, seq2seq, or encoder for a model that predicts no tokens."""
    if model.get_output_embeddings() is None:
        return "encoder"
    return "seq2seq" if model.config.is_encoder_decoder else "causal"


def unpack(model: Any, tokenizer: Any) -> tuple[Any, Any]:
    """The transformers model and tokenizer, from a handle or as they were given.

    Raises:
        BadInput: a plain model came without a tokenizer.
    """
    if hasattr(model, "processor") and hasattr(model, "model"):  # a handle: a plain model holds no processor
        return model.model, tokenizer or model.tokenizer
    if tokenizer is None:
        raise BadInput(
            f"A plain {type(model).__name__} needs its tokenizer beside it; or give a ModelHandle."
        )
    return model, tokenizer


def takes_positions(model: Any) -> bool:
    """Whether a causal model takes position ids, and counts them as we do: from 0, over real tokens.

    Some have none (Mamba, Bloom), some count from another number (RoBERTa). Both find positions themselves, from the mask or from
    the padding.
    """

    def probe(base: Any) -> bool:
        if "position_ids" not in inspect.signature(base.forward).parameters:
            return False
        ids = _texts(base)[0][None]
        positions = torch.arange(LONG, device=ids.device)[None]
        by_itself = base(input_ids=ids, use_cache=False).logits
        return agree(base(input_ids=ids, position_ids=positions, use_cache=False).logits, by_itself)

    return _asked(model, _positions, probe)


def reads_padded(model: Any) -> bool:
    """Whether a text with padding on its left gives the logits that it gives alone."""

    def probe(base: Any) -> bool:
        long, short = _texts(base)
        side_by_side = base(**_padded(base), use_cache=False).logits
        return agree(side_by_side[1, -SHORT:], _alone(base, short)) and agree(
            side_by_side[0], _alone(base, long)
        )

    return _asked(model, _padding, probe)


def keeps_cache(model: Any, new_cache: Callable[[Any], Any]) -> bool:
    """Whether texts that were read side by side into a cache go on from it as they would alone.

    Args:
        model: a causal model.
        new_cache: makes an empty cache, whose rows can be chosen.
    """

    def probe(base: Any) -> bool:
        texts = _texts(base)
        cache = new_cache(base)
        if not all(hasattr(layer, "batch_select_indices") for layer in cache.layers):
            return False
        inputs = _padded(base)
        base(**inputs, past_key_values=cache, use_cache=True)
        cache.batch_select_indices(torch.arange(2, device=base.device))
        step = {
            "input_ids": texts[0][:2, None],
            "attention_mask": torch.nn.functional.pad(inputs["attention_mask"], (0, 1), value=1),
        }
        if "position_ids" in inputs:
            step["position_ids"] = inputs["position_ids"][:, -1:] + 1
        stepped = base(**step, past_key_values=cache, use_cache=True).logits[:, -1]
        whole = [_alone(base, torch.cat([text, texts[0][i : i + 1]]))[-1] for i, text in enumerate(texts)]
        return agree(stepped, torch.stack(whole))

    return _asked(model, _caches, probe)


def _asked(model: Any, answers: WeakKeyDictionary[Any, bool], probe: Callable[[Any], bool]) -> bool:
    """What a probe says of a model, asked once; a model with a table has been tried already."""
    # Wrapped for several processes, a model hides its config.
    base = base_of(model.module if isinstance(model, DistributedDataParallel) else model)
    if not hasattr(base, "config") or base.config.model_type in FAMILIES:
        return True
    if base not in answers:
        training = base.training
        base.eval()
        try:
            with torch.no_grad():
                answers[base] = probe(base)
        except (TypeError, ValueError, RuntimeError, AttributeError, IndexError, KeyError):
            answers[base] = False  # it was not made for this; there is another way for such models
        finally:
            base.train(training)
    return answers[base]


def _texts(model: Any) -> tuple[Tensor, Tensor]:
    """A long and a short text, spread over the vocabulary."""
    vocab = model.get_input_embeddings().weight.shape[0]
    ids = torch.tensor(
        [(i + 1) * vocab // (LONG + SHORT + 1) for i in range(LONG + SHORT)], device=model.device
    )
    return ids[:LONG], ids[LONG:]


def _padded(model: Any) -> dict[str, Tensor]:
    """Both texts side by side, the short one padded on its left."""
    long, short = _texts(model)
    pad_id = getattr(model.config.get_text_config(), "pad_token_id", None)
    ids = torch.stack(
        [long, torch.nn.functional.pad(short, (LONG - SHORT, 0), value=0 if pad_id is None else pad_id)]
    )
    mask = torch.ones_like(ids)
    mask[1, : LONG - SHORT] = 0
    positions = {"position_ids": (mask.cumsum(-1) - 1).clamp(min=0)} if takes_positions(model) else {}
    return {"input_ids": ids, "attention_mask": mask, **positions}


def _alone(model: Any, text: Tensor) -> Tensor:
    logits: Tensor = model(input_ids=text[None], use_cache=False).logits[0]
    return logits


def agree(a: Tensor, b: Tensor) -> bool:
    """Whether two ways of reading gave the same logits, up to rounding in any order of sums."""
    a, b = a.float(), b.float()
    return bool(torch.allclose(a, b, rtol=2e-2, atol=2e-3 * float(b.abs().mean()) + 1e-6))


BOOKKEEPING = {
    "transformers_version", "max_length", "max_new_tokens", "use_cache", "cache_implementation", "num_return_sequences",
    "bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "output_attentions", "output_hidden_states",
    "output_scores", "output_logits", "return_dict_in_generate", "do_sample", "disable_compile",
}  # fmt: skip
"""Fields of a generation config that are followed, are the caller's to say, or change no token."""

SAMPLED = {"temperature", "top_p", "top_k", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "top_h"}
"""Fields that change what is drawn, and nothing where the likeliest token is taken."""


def ignored_settings(model: Any, gen: GenConfig) -> dict[str, Any]:
    """What the checkpoint recommends for generation and sampling here does not do: field -> value.

    End tokens are followed. Temperature and top-p are the caller's; where they agree with the checkpoint's nothing is ignored.

    Args:
        model: a model that writes text.
        gen: how it is sampled from.
    """
    config = getattr(base_of(model), "generation_config", None)
    if config is None:
        return {}
    usual, ignored = type(config)(), dict[str, Any]()
    for name, value in config.to_dict().items():
        is_set = value is not None and value != getattr(usual, name, None) and not name.startswith("_")
        if is_set and name not in BOOKKEEPING and value != getattr(gen, name, None):
            ignored[name] = value
    if gen.is_greedy:
        return {name: value for name, value in ignored.items() if name not in SAMPLED}
    return ignored


def say_ignored(model: Any, gen: GenConfig) -> None:
    """Log what the checkpoint recommends and is not done; once for each model and set of fields."""
    ignored, base = ignored_settings(model, gen), base_of(model)
    if not ignored or set(ignored) <= _ignored.setdefault(base, set()):
        return
    _ignored[base] |= set(ignored)
    log.warning(
        "The generation config of %s sets %s, which is not followed: sampling is by the temperature, top_p, top_k and stop texts "
        "of the command alone.",
        base.config.name_or_path or type(base).__name__,
        ", ".join(f"{name} {value}" for name, value in sorted(ignored.items())),
    )


def say_slow(model: Any) -> None:
    """Log that a model is read anew for each token; said once for each."""
    if model in _slow:
        return
    _slow.add(model)
    log.warning(
        "%s does not go on from a cache of several texts as it would alone; each text is read anew for every token, which is slow.",
        type(model).__name__,
    )
