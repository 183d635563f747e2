"""A retriever as a folder that sentence-transformers opens to the same vectors of sections and queries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gnomon.core.files import write_json, write_text
from gnomon.core.models.images.seen import image_sign
from gnomon.core.retrieval.encoders.folders import LIMITS, MODULES, PROMPTS
from gnomon.errors import BadConfig
from gnomon.methods.interleaved_retrieval.encoding.encoder import InterleavedEncoder, save_model

_TEMPLATE = (
    "{{%- for message in messages -%}}{{%- if message['content'] is string -%}}{{{{- message['content'] -}}}}"
    "{{%- else -%}}{{%- for item in message['content'] -%}}{{%- if item['type'] == 'image' -%}}{{{{- {image} -}}}}"
    "{{%- elif item['type'] == 'text' -%}}{{{{- item['text'] -}}}}{{%- endif -%}}{{%- endfor -%}}{{%- endif -%}}"
    "{{%- endfor -%}}{{{{- {query} if task == 'query' else {passage} -}}}}"
)
"""Contents in their order, then the token that ends a query or a section; `encode_query` sets `task`."""


def export_sentence_transformers(encoder: InterleavedEncoder, folder: Path) -> Path:
    """Write the folder; a section goes in as one message whose contents are its texts and images in reading order.

    Sections and queries of plain text go in as messages too. A marker such as "<image>" in a user's text is taken for what it says
    there, since sentence-transformers has one string.

    Args:
        encoder: a trained retriever.
        folder: a new or empty one.

    Raises:
        BadConfig: the folder is not empty; or the retriever reads the token before the last, which has no name there.
    """
    how = encoder.how
    pooling = {"last": "lasttoken", "mean": "mean"}.get(how.pick)
    if pooling is None:
        raise BadConfig(
            f'The state "{how.pick}" has no name in sentence-transformers; train with --pick last or mean.'
        )
    if folder.exists() and any(folder.iterdir()):
        raise BadConfig(f'"{folder}" is not empty. Choose another folder.')
    save_model(encoder.handle, folder)
    how.save(folder)
    write_text(folder / "chat_template.jinja", _template(encoder))
    modality = {"method": "forward", "method_output_name": "last_hidden_state"}
    kinds = {"text": modality, "message": {**modality, "format": "structured"}}
    write_json(
        folder / LIMITS,
        {
            "transformer_task": "feature-extraction",
            "modality_config": kinds,
            "module_output_name": "token_embeddings",
            "processing_kwargs": {"chat_template": {"add_generation_prompt": False}},
        },
    )
    (folder / "1_Pooling").mkdir()
    dim = encoder.dim
    write_json(
        folder / "1_Pooling" / "config.json",
        {"embedding_dimension": dim, "pooling_mode": pooling, "include_prompt": True},
    )
    (folder / "2_Normalize").mkdir()
    base = "sentence_transformers"
    kinds_of = [
        ("", f"{base}.base.modules.transformer.Transformer"),
        ("1_Pooling", f"{base}.sentence_transformer.modules.pooling.Pooling"),
        ("2_Normalize", f"{base}.base.modules.normalize.Normalize"),
    ]
    write_json(
        folder / MODULES,
        [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(kinds_of)],
    )
    write_json(
        folder / PROMPTS,
        {"model_type": "SentenceTransformer", "prompts": {}, "similarity_fn_name": "cosine"},
    )
    return folder


def _template(encoder: InterleavedEncoder) -> str:
    """The chat template that writes what `Units` puts together."""
    handle = encoder.handle
    sees: Any = handle.sites.sees if handle.kind == "vlm" else None
    image = "" if sees is None else sees.placeholder.format(token=image_sign(handle.processor))
    ends = encoder.how.ends
    return _TEMPLATE.format(
        image=repr(image), query=repr(ends.get("query", "")), passage=repr(ends.get("passage", ""))
    )
