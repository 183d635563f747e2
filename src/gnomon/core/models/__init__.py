"""Language and vision-language models from Hugging Face checkpoints: load, look inside, edit, sample, extend."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "load_model": "load",
        "load_tokenizer": "load",
        "load_processor": "images",
        "ModelHandle": "handle",
        "Batch": "batch",
        "as_handle": "handle",
        "StepInfo": "hooks",
        "Edit": "hooks",
        "Where": "batch",
        "Site": "architectures.sites",
        "Sites": "architectures.sites",
        "Family": "architectures.parts",
        "Layout": "architectures.parts",
        "find_sites": "architectures.sites",
        "VLFamily": "architectures.parts",
        "ImageLayout": "architectures.parts",
        "Tile": "architectures.parts",
        "GenConfig": "sampling.config",
        "Completion": "sampling.generate",
        "Progress": "sampling.sampler",
        "Watch": "sampling.sampler",
        "generate": "handle",
        "add_token": "adapters",
        "add_lora": "adapters",
        "save_lora": "adapters",
        "new_llama": "tiny",
        "tiny_causal": "tiny",
        "tiny_llava": "tiny",
        "train_bpe": "tiny",
        "whole_words": "tiny",
    },
)
