"""An encoder on a server: order, batches, what a server gets wrong, attempts, keys, budget and length."""

import numpy as np
import pytest

from fixtures_vendors import VendorServer
from gnomon.core.llm import LLMConfig
from gnomon.core.retrieval import TextEncoder
from gnomon.core.retrieval.encoders.endpoint import BATCH_TEXTS
from gnomon.errors import BadConfig, BadInput, BudgetSpent, LLMFailure

OPEN = []


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "GNOMON_KEYS"):
        monkeypatch.delenv(name, raising=False)
    yield
    while OPEN:
        OPEN.pop().close()


def vector(text):
    """What the server says of a text: (length, 1, 0), so that a mean over halves can be worked out."""
    return [float(len(text)), 1.0, 0.0]


def served(texts, *, scramble=True):
    rows = [{"object": "embedding", "index": i, "embedding": vector(t)} for i, t in enumerate(texts)]
    body = {"object": "list", "data": rows[::-1] if scramble else rows, "model": "m"}
    return body | {"usage": {"prompt_tokens": 3 * len(texts), "total_tokens": 3 * len(texts)}}


def unit(row):
    return np.array(row) / np.linalg.norm(row)


def opened(server, *, too_long="windows", prefixes=None, **settings):
    asks = LLMConfig(**{"cache": "none", "retries": 0} | settings)
    OPEN.append(TextEncoder.load(server.endpoint, asks=asks, too_long=too_long, prefixes=prefixes))
    return OPEN[-1]


def test_texts_go_in_batches_and_come_back_in_their_order():
    texts = ["x" * (1 + i % 50) for i in range(2 * BATCH_TEXTS + 3)]
    with VendorServer(lambda request: (200, served(request.body["input"]))) as server:
        encoder = opened(server, prefixes={"query": "q: "})
        vectors = encoder.encode(texts)
        np.testing.assert_allclose(vectors, [unit(vector(t)) for t in texts], atol=1e-6)
        assert vectors.dtype == np.float32 and encoder.dim == 3
        assert sorted(len(body["input"]) for body in server.bodies[:3]) == [3, BATCH_TEXTS, BATCH_TEXTS]
        assert {request.path for request in server.asked} == {"/v1/embeddings"}
        np.testing.assert_allclose(encoder.encode(["ab"], "query"), [unit(vector("q: ab"))], atol=1e-6)
        assert encoder.fingerprint != opened(server).fingerprint
        assert opened(server).fingerprint == server.endpoint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda body: body | {"data": body["data"][1:]}, "1 came"),
        (
            lambda body: {"data": [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [2.0]}]},
            "numbers",
        ),
        (lambda body: {"data": [{"embedding": [1.0]}, {"embedding": [2.0, 1.0]}]}, "different lengths"),
        (lambda body: {"data": [{"embedding": [1.0]}, {"embedding": "AAAA"}]}, "no list of numbers"),
        (lambda body: {"data": [{"embedding": [1.0]}, {"embedding": ["x"]}]}, "no list of numbers"),
        (lambda body: {"vectors": []}, "no list of data"),
    ],
)
def test_what_a_server_gets_wrong_is_named(change, message):
    with (
        VendorServer(lambda request: (200, change(served(request.body["input"])))) as server,
        pytest.raises(LLMFailure, match=message),
    ):
        opened(server).encode(["one", "two"])


def test_vectors_of_two_lengths_in_two_batches_are_refused():
    def answer(request):
        rows = [{"embedding": [1.0] * (2 if "odd" in text else 3)} for text in request.body["input"]]
        return 200, {"data": rows}

    with VendorServer(answer) as server, pytest.raises(LLMFailure, match="different lengths"):
        opened(server).encode(["even"] * BATCH_TEXTS + ["odd"])


def test_a_fault_that_may_pass_is_tried_again_and_one_that_stays_is_an_error():
    def answer(request):
        if request.number == 0:
            return 503, {"error": {"message": "busy"}}
        return 200, served(request.body["input"])

    with VendorServer(answer) as server:
        np.testing.assert_allclose(opened(server, retries=2).encode(["abc"]), [unit([3, 1, 0])], atol=1e-6)
        assert len(server.asked) == 2
    with (
        VendorServer(lambda request: (401, {"error": {"message": "bad key"}})) as server,
        pytest.raises(LLMFailure, match="bad key"),
    ):
        opened(server, retries=2).encode(["abc"])


def test_a_key_goes_to_its_host_alone(monkeypatch):
    monkeypatch.setenv("EMBED_KEY", "sk-embed")
    with VendorServer(lambda request: (200, served(request.body["input"]))) as server:
        opened(server, api_key_env=("EMBED_KEY@127.0.0.1",)).encode(["a"])
        opened(server, api_key_env=("EMBED_KEY@models.example.org",)).encode(["a"])
    assert [r.headers.get("authorization") for r in server.asked] == ["Bearer sk-embed", None]


def test_the_budget_and_the_cache_are_those_of_other_requests(tmp_path):
    with VendorServer(lambda request: (200, served(request.body["input"]))) as server:
        with pytest.raises(BudgetSpent):
            opened(server, budget_calls=1, concurrency=1).encode(["a"] * (BATCH_TEXTS + 1))
        assert len(server.asked) == 1
        kept = opened(server, cache=str(tmp_path))
        vectors = kept.encode(["one", "three"])
        np.testing.assert_array_equal(opened(server, cache=str(tmp_path)).encode(["one", "three"]), vectors)
        assert len(server.asked) == 2


def test_a_text_that_the_server_finds_too_long_is_halved_cut_or_refused():
    def answer(request):
        if any(len(text) > 10 for text in request.body["input"]):
            message = "This model's maximum context length is 10 tokens. Please reduce the length."
            return 400, {"error": {"message": message, "code": "context_length_exceeded"}}
        return 200, served(request.body["input"])

    texts = ["short", "abcdefg hijkl", "b"]
    with VendorServer(answer) as server:
        encoder = opened(server)
        vectors = encoder.encode(texts)
        both = unit([7, 1, 0]) + unit([5, 1, 0])
        np.testing.assert_allclose(vectors, [unit([5, 1, 0]), unit(both), unit([1, 1, 0])], atol=1e-6)
        assert encoder.n_too_long == 1
        np.testing.assert_allclose(
            opened(server, too_long="cut").encode(texts)[1], unit([7, 1, 0]), atol=1e-6
        )
        with pytest.raises(BadInput, match="Text 1 is longer"):
            opened(server, too_long="error").encode(texts)


def test_what_only_a_model_of_this_process_has_is_refused():
    with pytest.raises(BadConfig, match="A server pools"):
        TextEncoder.load("http://localhost:1/v1#m", pooling="cls")
    with pytest.raises(BadConfig, match="http://host"):
        TextEncoder.load("http://localhost:1/v1")
