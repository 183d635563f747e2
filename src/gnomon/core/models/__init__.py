"""Language and vision-language models from Hugging Face checkpoints: load, look inside, edit, sample, extend."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "load_model": "load",
        "load_tokenizer": "load",
        "load_processor": "processors",
        "ModelHandle": "handle",
        "Batch": "batch",
        "as_handle": "handle",
        "StepInfo": "hooks",
        "Edit": "hooks",
        "Where": "batch",
        "Site": "sites",
        "Sites": "sites",
        "Family": "sites",
        "Layout": "sites",
        "find_sites": "sites",
        "VLFamily": "vlm",
        "ImageLayout": "layout",
        "Tile": "layout",
        "GenConfig": "config",
        "Completion": "generation",
        "Progress": "generation",
        "Watch": "generation",
        "generate": "generation",
        "add_token": "tokens",
        "add_lora": "adapters",
        "save_lora": "adapters",
        "new_llama": "tiny",
        "tiny_causal": "tiny",
        "tiny_llava": "tiny_vlm",
        "train_bpe": "tiny",
        "whole_words": "tiny",
    },
)
