"""A small model of every class that the installed transformers has, made from its own config with every size set small."""

import re

import torch

LIMITS = (  # what a setting is called -> its small value; the first that fits counts
    (r"vocab", 128),
    (
        r"num_hidden_layers|n_layers?|num_layers|encoder_layers|decoder_layers|num_(en|de)coder_layers|num_blocks",
        4,
    ),
    (r".*(kv_heads|key_value_heads|n_head_kv)", 2),
    (r"mamba_(n|num)_heads|ssm_num_heads", 4),
    (r"mamba_(d_head|head_dim|headdim)", 16),
    (r".*(attention_heads|n_heads?|num_heads|_heads)", 4),
    (r".*(experts_per_tok|top_k|topk)", 2),
    (r".*(routed_experts|num_experts|local_experts|n_experts)", 4),
    (r".*shared_experts", 1),
    (r"n_group|topk_group", 1),
    (r"rotary_dim", 4),
    (r".*(head_dim|kv_channels|d_kv|lora_rank)", 8),
    (r".*(hidden_size|d_model|n_embd|model_dim|embed_dim|embedding_size)|dim", 32),
    (r".*(intermediate_size|ffn_dim|n_inner|d_ff|ffn_hidden_size)", 64),
    (r"first_k_dense_replace|num_dense_layers", 1),
    (r".*(max_position|n_positions|max_sequence|max_seq|n_ctx|seq_length).*", 128),
)
NESTED = ("text_config", "vision_config", "audio_config", "encoder", "decoder")


def shrink(config):
    """Set the sizes of a config small, those of the configs in it too; returns the config."""
    for name in NESTED:
        if hasattr(getattr(config, name, None), "to_dict"):
            shrink(getattr(config, name))
    settings = config.to_dict()
    has_latents = any("lora_rank" in name for name in settings)
    for name, value in settings.items():
        small = _small(name.lower(), value, has_latents)
        if small is not None and small != value:
            try:
                setattr(config, name, small)
            except (AttributeError, ValueError):
                continue  # computed from others
    kinds = settings.get("layer_types")
    if isinstance(kinds, (list, tuple)) and kinds:
        kinds = list(dict.fromkeys(kinds))
        config.layer_types = [kinds[i % len(kinds)] for i in range(config.num_hidden_layers)]
    return config


def _small(name, value, has_latents):
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    if name.endswith(("token_id", "token_index")):
        return min(value, 7)
    if re.search(r"chunk|window|block_size", name):
        return min(value, 16)
    for pattern, small in LIMITS:
        if re.fullmatch(pattern, name) or (pattern == "vocab" and "vocab" in name):
            if has_latents and "kv_heads" in pattern:
                return 4  # attention over latents has as many keys as queries
            return min(value, small) if "experts_per" in pattern or "shared" in pattern else small
    return None


def small_model(kind, class_name, *, seed=0, is_decoder=True):
    """A model of a class with its sizes set small and its weights spread, so that no two parts agree by chance."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config = shrink(CONFIG_MAPPING[kind]())
    if hasattr(config, "is_decoder") and not config.is_encoder_decoder:
        config.is_decoder = is_decoder
    torch.manual_seed(seed)
    made = getattr(transformers, class_name)
    try:
        model = made(config)
    except AttributeError:  # a class of the text part alone
        model = made(config.get_text_config())
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    return model.eval()
