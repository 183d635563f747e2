"""The architectures whose sites are known: one small table each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from gnomon.core.models.architectures.parts import Family, Layout

_LLAMA = Family("model.layers", "model.norm", "self_attn", "mlp", mid_into="post_attention_layernorm")
# Gemma normalises what attention and MLP return before it adds them.
_GEMMA = Family(
    "model.layers",
    "model.norm",
    "post_attention_layernorm",
    "post_feedforward_layernorm",
    mid_into="pre_feedforward_layernorm",
)
_GPT2 = Family("transformer.h", "transformer.ln_f", "attn", "mlp", mid_into="ln_2")


def _gpt_neox(config: Any) -> Family:
    """Attention and MLP read the same stream unless the checkpoint says otherwise: then nothing lies between them."""
    mid = None if config.use_parallel_residual else "post_attention_layernorm"
    return Family("gpt_neox.layers", "gpt_neox.final_layer_norm", "attention", "mlp", mid_into=mid)


def _opt(config: Any) -> Family:
    """The 350m checkpoint normalises after adding, has no final norm, and narrows the stream before the output embedding."""
    pre_norm = config.do_layer_norm_before
    has_final = pre_norm and not config._remove_final_layer_norm
    narrows = config.word_embed_proj_dim != config.hidden_size
    return Family(
        blocks="model.decoder.layers",
        final_norm="model.decoder.final_layer_norm" if has_final else None,
        attn_out="self_attn",
        mlp_out="fc2",
        mid_into="final_layer_norm" if pre_norm else None,
        mid_from=None if pre_norm else "self_attn_layer_norm",
        project="model.decoder.project_out" if narrows else None,
    )


def _t5(config: Any) -> Layout:
    encoder = Family(
        blocks="encoder.block",
        final_norm="encoder.final_layer_norm",
        attn_out="layer.0.SelfAttention",
        mlp_out="layer.1.DenseReluDense",
        mid_from="layer.0",
    )
    decoder = replace(
        encoder,
        blocks="decoder.block",
        final_norm="decoder.final_layer_norm",
        cross_out="layer.1.EncDecAttention",
        mlp_out="layer.2.DenseReluDense",
        mid_from="layer.1",
    )
    return {"encoder": encoder, "decoder": decoder} if config.is_encoder_decoder else {"encoder": encoder}


# model_type of the config -> table, or a function of the config where checkpoints of one type differ
FAMILIES: dict[str, Layout | Callable[[Any], Layout]] = {
    "gemma": _LLAMA,
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA,
    "gpt2": _GPT2,
    "gpt_neox": _gpt_neox,
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "olmo": _LLAMA,
    "opt": _opt,
    "phi3": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "t5": _t5,
}
