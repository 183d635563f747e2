"""A text has one vector whatever else is encoded, sentence-transformers has the same one, and two encoders never share a name."""

import itertools
import json
import shutil
import warnings

import numpy as np
import pytest
import torch

from gnomon.core.models.load import model_at
from gnomon.core.retrieval import TextEncoder
from gnomon.core.retrieval.encoders.folders import About
from gnomon.core.retrieval.encoders.pooling import POOLINGS, Dense, Readout
from gnomon.errors import BadConfig, BadInput, ModelMismatch

TEXTS = [
    "A council met twelve times.",
    "Rain.",
    "The spectral gap bounds how fast a chain forgets where it began, and long ones forget slowly.",
    "Bread and butter are what remains when the market closes.",
]
LONG = " ".join(f"word{i} stands here" for i in range(200))


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A tiny BERT with a tokenizer that frames texts, as a plain folder."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    words = sorted({w.strip(".,").lower() for w in " ".join(TEXTS).split()})
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", ":", "query", *words]
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(vocab)))
    tokenizer = BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=24)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=24, initializer_range=0.5,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def theirs(folder, texts, prompt=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        if prompt is not None:
            return getattr(model, f"encode_{prompt}")(texts, normalize_embeddings=True)
        return model.encode(texts, normalize_embeddings=True)


def dense(inputs, outputs, activation="Tanh"):
    linear = torch.nn.Linear(inputs, outputs).requires_grad_(False)
    return Dense(linear, activation)


def with_about(encoder, **options):
    return TextEncoder.of(encoder.embeds.model, encoder.embeds.tokenizer, About(None, **options))


def test_the_vector_is_the_mean_over_the_tokens_worked_out_by_transformers_alone(embedded):
    from transformers import AutoModel, AutoTokenizer

    folder = model_at(embedded("minilm"))
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    encoder = TextEncoder.load("embedded:minilm")
    assert (encoder.dim, encoder.max_tokens) == (384, 256)
    vectors = encoder.encode(TEXTS)
    assert vectors.dtype == np.float32 and vectors.shape == (4, 384)
    for text, vector in zip(TEXTS, vectors, strict=True):
        with torch.no_grad():
            mean = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(vector, (mean / mean.norm()).numpy(), atol=1e-6)
    np.testing.assert_allclose(vectors, theirs(folder, TEXTS), atol=1e-6)


def test_order_and_batches_and_padding_change_nothing(embedded):
    embedded("minilm")
    encoder = TextEncoder.load("embedded:minilm")
    texts = [*TEXTS, LONG]
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    for budget, order in itertools.product((1, 60, 10_000), ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1])):
        encoder.embeds.batch_tokens = budget
        together = encoder.encode([texts[i] for i in order])
        np.testing.assert_allclose(together, alone[order], atol=1e-6)
        np.testing.assert_array_equal(together, encoder.encode([texts[i] for i in order]))
    np.testing.assert_allclose(np.linalg.norm(alone, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("name", POOLINGS)
def test_every_pooling_is_that_of_sentence_transformers(bert, tmp_path, name):
    encoder = TextEncoder.load(bert, pooling=name, max_tokens=14)
    vectors = encoder.encode(TEXTS)
    folder = encoder.save(tmp_path / "saved")
    short = [TEXTS[0], TEXTS[1], TEXTS[3]]
    np.testing.assert_allclose(vectors[[0, 1, 3]], theirs(folder, short), atol=1e-6)
    again = TextEncoder.load(folder)
    assert again.fingerprint == encoder.fingerprint
    np.testing.assert_array_equal(again.encode(TEXTS), vectors)


def test_dense_layers_prefixes_and_poolings_put_together_survive_the_folder(bert, tmp_path):
    torch.manual_seed(1)
    plain = TextEncoder.load(bert)
    for number, readout in enumerate(
        (
            Readout(("max", "cls"), steps=(dense(32, 8), None, dense(8, 5, "Identity"))),
            Readout(("mean", "lasttoken"), counts_prefix=False),
            Readout(("weightedmean",), counts_prefix=False, steps=(dense(16, 4, "GELU"),)),
        )
    ):
        prefixes = {"query": "query: ", "passage": "rain: "}
        encoder = with_about(plain, readout=readout, prefixes=prefixes)
        folder = encoder.save(tmp_path / str(number))
        for role, prompt in ("query", "query"), ("passage", "document"):
            vectors = encoder.encode(TEXTS, role)
            np.testing.assert_allclose(vectors, theirs(folder, TEXTS, prompt), atol=1e-6)
            again = TextEncoder.load(folder)
            np.testing.assert_array_equal(again.encode(TEXTS, role), vectors)
            assert again.fingerprint == encoder.fingerprint and again.dim == vectors.shape[1]
        assert np.abs(encoder.encode(TEXTS, "query") - encoder.encode(TEXTS)).max() > 1e-3


def test_a_folder_that_sentence_transformers_wrote_is_read(bert, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer import modules

        body = modules.Transformer(str(bert), max_seq_length=20)
        torch.manual_seed(3)
        model = SentenceTransformer(
            modules=[body, modules.Pooling(16, ("cls", "mean")), modules.Dense(32, 6)],
            prompts={"query": "query: "},
            device="cpu",
        )
        model.save(str(tmp_path / "theirs"), create_model_card=False)
    encoder = TextEncoder.load(
        tmp_path / "theirs", too_long="cut"
    )  # the third text and the long one have more tokens
    assert (encoder.max_tokens, encoder.dim) == (20, 6)
    long = " ".join(TEXTS)
    np.testing.assert_allclose(
        encoder.encode([*TEXTS, long]), theirs(tmp_path / "theirs", [*TEXTS, long]), atol=1e-6
    )
    assert (encoder.n_texts, encoder.n_too_long) == (5, 2)
    np.testing.assert_allclose(
        encoder.encode(TEXTS, "query"), theirs(tmp_path / "theirs", TEXTS, "query"), atol=1e-6
    )


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_decoder_reads_its_last_token_whichever_side_is_padded(checkpoint, tmp_path, name, side):
    from transformers import AutoModel, AutoTokenizer

    folder = tmp_path / "decoder"
    shutil.copytree(checkpoint(name), folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side=side)
    tokenizer.save_pretrained(folder)
    encoder = TextEncoder.load(folder, pooling="lasttoken")
    model = AutoModel.from_pretrained(folder)
    texts = ["one two", "a much longer text than the first", "three"]
    with torch.no_grad():
        last = [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, -1] for text in texts]
    wanted = torch.nn.functional.normalize(torch.stack(last), dim=-1).numpy()
    np.testing.assert_allclose(encoder.encode(texts), wanted, atol=1e-6)


def test_long_texts_are_averaged_over_windows_cut_or_refused(bert):
    body = " ".join(TEXTS[2].replace(",", "").replace(".", "").split())
    words = (body + " " + body).split()  # 34 words, one token each
    encoder = TextEncoder.load(bert, prefixes={"passage": "query: "})
    front = 2  # "query" and ":"
    room = 24 - 2 - front
    edges = [0, len(words) // 2, len(words)]
    assert len(words) == 34 and room < 34 <= 2 * room
    halves = [" ".join(words[a:b]) for a, b in itertools.pairwise(edges)]
    vectors = encoder.encode(halves)
    assert encoder.n_too_long == 0
    mean = vectors.sum(0)
    (vector,) = encoder.encode([" ".join(words)])
    np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-6)
    cut = TextEncoder.load(bert, prefixes={"passage": "query: "}, too_long="cut")
    np.testing.assert_allclose(
        cut.encode([" ".join(words)])[0], cut.encode([" ".join(words[:room])])[0], atol=1e-6
    )
    assert encoder.n_too_long == cut.n_too_long == 1
    with pytest.raises(BadInput, match="Text 1 has 38 tokens and the encoder reads 24"):
        TextEncoder.load(bert, prefixes={"passage": "query: "}, too_long="error").encode(
            ["rain", " ".join(words)]
        )


def test_fingerprints_tell_encoders_apart_and_not_their_folders(bert, tmp_path):
    shutil.copytree(bert, tmp_path / "copy")
    encoder = TextEncoder.load(bert)
    assert encoder.fingerprint == TextEncoder.load(tmp_path / "copy").fingerprint
    other = TextEncoder.load(tmp_path / "copy")
    with torch.no_grad():  # a change that bfloat16 would round away
        other.embeds.model.encoder.layer[0].output.dense.weight[0, 0] += 1e-6
    lower = TextEncoder.load(tmp_path / "copy")
    lower.embeds.tokenizer.backend_tokenizer.normalizer = None
    names = [
        encoder.fingerprint,
        other.fingerprint,
        lower.fingerprint,
        *(TextEncoder.load(bert, pooling=name).fingerprint for name in POOLINGS if name != "mean"),
        TextEncoder.load(bert, max_tokens=12).fingerprint,
        TextEncoder.load(bert, prefixes={"query": "query: "}).fingerprint,
        TextEncoder.load(bert, prefixes={"passage": "query: "}).fingerprint,
        with_about(encoder, readout=Readout(steps=(None, dense(16, 16)))).fingerprint,
        with_about(encoder, readout=Readout(steps=(None, dense(16, 16)))).fingerprint,
    ]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("texts", "role", "message"),
    [
        (["a", " \n"], "passage", "Text 1 is empty"),
        (["\u200b"], "passage", "Text 0 has no tokens"),
        ("a", "passage", "encode\\(\\[text\\]\\)"),
    ],
)
def test_what_cannot_be_encoded_is_named(bert, texts, role, message):
    with pytest.raises(BadInput, match=message):
        TextEncoder.load(bert).encode(texts, role)


def test_what_cannot_be_opened_is_named(bert, tmp_path):
    with pytest.raises(BadConfig, match='No role is called "qury"'):
        TextEncoder.load(bert).encode(["a"], "qury")
    with pytest.raises(BadConfig, match='No pooling is called "meen"'):
        TextEncoder.load(bert, pooling="meen")
    assert TextEncoder.load(bert).encode([]).shape == (0, 16)
    saved = TextEncoder.load(bert).save(tmp_path / "saved")
    with pytest.raises(BadConfig, match="is not empty"):
        TextEncoder.load(bert).save(saved)
    modules = json.loads((saved / "modules.json").read_text())
    modules[1]["type"] = "sentence_transformers.models.LSTM"
    (saved / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelMismatch, match="LSTM, which is not known"):
        TextEncoder.load(saved)
