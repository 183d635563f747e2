import numpy as np
import pytest
import torch

from fixtures_crispo import COUNT_PROMPT, as_number, counting_llms
from gnomon.core.models import train_bpe
from gnomon.core.models.load import model_at
from gnomon.core.rng import Rng, seeded
from gnomon.errors import BadInput
from gnomon.methods.crispo import Example, Neighbours, SearchConfig, Task, optimize

TEXTS = [f"{a} {b} report number {i}" for i, (a, b) in enumerate([("roof", "bridge"), ("park", "mill")] * 6)]


@pytest.fixture(scope="module", params=["bert", "roberta"])
def encoder(request, tmp_path_factory):
    """Folder of a tiny encoder."""
    from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

    kind = {"bert": (BertConfig, BertModel), "roberta": (RobertaConfig, RobertaModel)}[request.param]
    tokenizer = train_bpe(TEXTS, 300)
    config = kind[0](
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
    )
    with seeded(Rng(0).child(request.param)):
        model = kind[1](config)
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


ROWS = [Example(f"t{i}", text, f"out {i}") for i, text in enumerate(TEXTS)]


def alone(folder, text):
    """The first vector of one text, by transformers alone."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        hidden = model(
            **{k: v for k, v in tokenizer(text, return_tensors="pt").items() if k != "token_type_ids"}
        )
    return hidden.last_hidden_state[0, 0].numpy()


@pytest.mark.slow
def test_the_nearest_by_cosine_most_similar_last_and_never_itself(encoder):
    near = Neighbours(encoder, ROWS, ["input"], k=3)
    vectors = np.stack([alone(encoder, text) for text in TEXTS])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(near.vectors(TEXTS), vectors, atol=1e-4)
    query = Example("q", "roof bridge something new", "?")
    q = alone(encoder, query.input)
    order = np.argsort(-(vectors @ q))[:3]
    assert [row.id for row in near.of([query])[0]] == [f"t{i}" for i in order[::-1]]
    for row, found in zip(ROWS, near.of(ROWS), strict=True):
        assert row.id not in [one.id for one in found]
        assert len(found) == 3


@pytest.mark.slow
def test_examples_fill_their_slot_from_train_alone(encoder):
    log = []
    near = Neighbours(encoder, ROWS, ["input"], k=2)
    dev = [Example(f"d{i}", f"dev text number {i} of the park", "unseen dev output") for i in range(3)]
    task = Task([f"INSERT_EXAMPLES_HERE\n{COUNT_PROMPT}"], neighbours=near)
    cfg = SearchConfig(steps=1, per_step=1)
    optimize(task, ROWS, dev, counting_llms(log), [as_number()], cfg)
    asked = [text for role, text, _ in log if role == "task"]
    assert any(text.count("Input:\n") == 2 and "Output:\nout" in text for text in asked)
    assert not any("unseen dev output" in text for text in asked)
    assert any("INSERT_EXAMPLES_HERE as well" in text for role, text, _ in log if role == "optimizer")


@pytest.mark.slow
def test_a_loaded_encoder_and_what_cannot_work(encoder, checkpoint):
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(encoder), AutoTokenizer.from_pretrained(encoder)
    near = Neighbours(model.eval(), ROWS, ["input"], k=2, tokenizer=tokenizer)
    other = Neighbours(encoder, ROWS, ["input"], k=2)
    assert near.of(ROWS[:3]) == other.of(ROWS[:3])
    long = Example("l", "roof " * 500, "x")
    assert len(near.of([long])[0]) == 2
    with pytest.raises(BadInput, match="12 near examples cannot be taken from 12 rows"):
        Neighbours(encoder, ROWS, ["input"], k=12)
    with pytest.raises(BadInput, match="needs its tokenizer"):
        Neighbours(model, ROWS, ["input"])


def test_a_sentence_encoder_is_read_as_its_folder_says(embedded):
    """Vectors of the real MiniLM equal those of sentence-transformers, which averages over the tokens."""
    from sentence_transformers import SentenceTransformer

    folder = model_at(embedded("minilm"))
    near = Neighbours("embedded:minilm", ROWS, ["input"], k=2)
    texts = ["The old bridge was repaired.", "A mill stands in the park.", ""]
    expected = SentenceTransformer(str(folder), device="cpu").encode(texts[:2], normalize_embeddings=True)
    np.testing.assert_allclose(near.vectors(texts)[:2], expected, atol=1e-5)
    assert not near.vectors(texts)[2].any()
