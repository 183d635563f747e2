"""Folders for sentence-transformers and folders of published embedders: equal vectors on both sides."""

import warnings

import numpy as np
import pytest

from fixtures_interleaved import encoder, small_documents, small_queries
from fixtures_vlm import picture, vlm
from gnomon.methods.interleaved_retrieval import (
    InterleavedEncoder,
    Query,
    Retrieving,
    export_sentence_transformers,
)
from gnomon.methods.interleaved_retrieval.documents.serialise import section_pieces
from gnomon.methods.interleaved_retrieval.encoding.vectors import unit

pytestmark = pytest.mark.filterwarnings("ignore")


def opened(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(str(folder), device="cpu")


def message(pieces):
    content = [
        {"type": "text", "text": piece} if isinstance(piece, str) else {"type": "image", "image": piece}
        for piece in pieces
    ]
    return [{"role": "user", "content": content}]


def as_message(document, number, form):
    return message([piece for _, piece in section_pieces(document, number, form)])


def test_sentence_transformers_opens_a_retriever_to_the_same_vectors(tmp_path):
    ours = encoder()
    theirs = opened(export_sentence_transformers(ours, tmp_path / "st"))
    documents = small_documents(3)
    encoded = ours.encode_sections(documents)
    sections = [as_message(d, i, ours.how.form) for d in documents for i in range(3)]
    np.testing.assert_allclose(theirs.encode_document(sections), unit(encoded.vectors), atol=1e-4)
    queries = [*small_queries(2), Query("seen", "a dog", picture(9))]
    asked = [
        message([piece for piece in (query.image, query.text) if piece is not None]) for query in queries
    ]
    np.testing.assert_allclose(theirs.encode_query(asked), ours.encode_queries(queries), atol=1e-4)


TEMPLATE = (
    "{%- for message in messages -%}<s>{{ message['role'] }}: "
    "{%- for item in message['content'] -%}{%- if item['type'] == 'image' -%}<image>"
    "{%- else -%}{{ item['text'] }}{%- endif -%}{%- endfor -%}</s>{% endfor -%}"
)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder as embedders are published: a chat template, instructions by role, the last token."""
    import json

    folder = tmp_path_factory.mktemp("published")
    handle = vlm("llava")
    handle.model.save_pretrained(folder)
    handle.processor.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    names = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(names)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "2_Normalize").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"embedding_dimension": 32, "pooling_mode": "lasttoken", "include_prompt": True})
    )
    method = {"method": "forward", "method_output_name": "last_hidden_state"}
    (folder / "sentence_bert_config.json").write_text(
        json.dumps(
            {
                "transformer_task": "feature-extraction",
                "modality_config": {"message": {**method, "format": "structured"}},
                "module_output_name": "token_embeddings",
            }
        )
    )
    prompts = {"query": "a dog ran to the query", "document": "a cat in the park"}
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({"model_type": "SentenceTransformer", "prompts": prompts, "similarity_fn_name": "cosine"})
    )
    return folder


def test_a_published_embedder_is_fed_by_the_template_of_its_folder(published):
    ours, theirs = InterleavedEncoder.from_pretrained(published), opened(published)
    assert "query" in ours.how.template["query"][0] and "<s>user" in ours.how.template["passage"][0]
    documents, queries = small_documents(2), small_queries(2)
    sections = [as_message(d, i, ours.how.form) for d in documents for i in range(3)]
    encoded = unit(ours.encode_sections(documents).vectors)
    np.testing.assert_allclose(theirs.encode_document(sections), encoded, atol=1e-4)
    asked = [message([query.text]) for query in queries]
    np.testing.assert_allclose(theirs.encode_query(asked), ours.encode_queries(queries), atol=1e-4)
    bare = InterleavedEncoder(ours.handle, Retrieving(ends={"passage": "", "query": ""}))
    other = unit(bare.encode_sections(documents).vectors)
    assert float((other * encoded).sum(1).min()) < 0.99  # without the template they are others
