"""Scoring over HTTP against a real server on the loopback address whose numbers are a model's own."""

import json
from contextlib import contextmanager

import pytest
import torch

from fixtures_vendors import VendorServer
from gnomon import cli
from gnomon.core.llm import close, complete
from gnomon.core.llm.endpoint.given import GivenLogprobs, request_of
from gnomon.errors import BadInput, LLMFailure
from gnomon.methods.uncertainty_rag import Layout, LocalReader, Span, SpanUncertainty
from gnomon.methods.uncertainty_rag.scoring.served import ServedReader

TEXTS = ["The bread oven crust.", "ships sail", "dough rises in an oven", "a planet"]


def logprobs_of(handle, ids):
    with torch.no_grad():
        table = handle.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return [None, *(float(table[i, token]) for i, token in enumerate(ids[1:]))]


def vllm(handle, **change):
    """Answers as vLLM does: at each place the prompt's own token, and what is likelier."""

    def answer(request):
        body = request.body
        if "prompt_logprobs" not in body:  # an extra field that it does not know
            return 200, {"choices": [{"index": 0, "text": "x"}]}
        ids = body["prompt"]
        given = [
            None
            if value is None
            else {
                "0": {"logprob": -0.01, "rank": 1},
                str(token): {"logprob": value + change.get("drift", 0) * request.number, "rank": 2},
            }
            for token, value in zip(ids, logprobs_of(handle, ids), strict=True)
        ]
        return 200, {
            "object": "text_completion",
            "choices": [{"index": 0, "text": "x", "prompt_logprobs": given[change.get("cut", 0) :]}],
        }

    return answer


def echoing(handle):
    """Answers as the first OpenAI servers did; the other field is refused."""

    def answer(request):
        body = request.body
        if "prompt_logprobs" in body:
            return 400, {"error": {"message": "Unknown field", "type": "invalid_request_error"}}
        values = logprobs_of(handle, body["prompt"])
        return 200, {
            "choices": [{"text": "", "logprobs": {"token_logprobs": values, "tokens": ["x"] * len(values)}}]
        }

    return answer


@contextmanager
def reader_of(server, lm, **options):
    url, _, name = server.endpoint.partition("#")
    llm = GivenLogprobs(url, name)
    try:
        yield ServedReader(llm, lm.tokenizer, Layout(), **options)
    finally:
        close(llm)


@pytest.mark.parametrize("dialect", [vllm, echoing])
def test_a_server_s_scores_are_those_of_the_model_behind_it(lm, dialect):
    pairs = [(a, b) for a in TEXTS for b in TEXTS if a != b][:5]
    wanted = SpanUncertainty(LocalReader(lm), Span(window=4, sigma=1.2)).score(pairs)
    with VendorServer(dialect(lm)) as server, reader_of(server, lm) as reader:
        reader.check(reader.encode(TEXTS[0]), reader.encode(TEXTS[1]))
        ours = SpanUncertainty(reader, Span(window=4, sigma=1.2)).score(pairs)
        sent = [body["prompt"] for body in server.bodies]
    for name in ("U", "U_other", "nll_all", "nll_cond", "gain"):
        assert getattr(ours, name) == pytest.approx(getattr(wanted, name), abs=1e-5), name
    assert all(isinstance(prompt[0], int) for prompt in sent)  # one prompt a request, never many at once


def test_requests_under_way_are_few_whatever_the_concurrency(lm):
    """vllm#5907, #5550: log-probabilities of many long prompts at once exhaust a server's memory."""
    import threading

    lock, now, most = threading.Lock(), [0], [0]
    plain = vllm(lm)

    def watched(request):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        try:
            return plain(request)
        finally:
            with lock:
                now[0] -= 1

    with VendorServer(watched) as server, reader_of(server, lm) as reader:
        reader.alone([reader.encode(f"ships sail {i}") for i in range(20)])
    assert 1 <= most[0] <= 4


def test_a_server_that_does_not_give_them_is_told_apart_with_one_pair(lm):
    cases = {
        "no such field": (lambda r: (200, {"choices": [{"text": "hello"}]}), "neither prompt_logprobs nor"),
        "cut": (vllm(lm, cut=2), "tokens for"),
        "changes": (vllm(lm, drift=-0.2), "asked again"),
        "memory": (lambda r: (500, {"error": {"message": "CUDA out of memory"}}), "out of memory"),
    }  # fmt: skip
    for name, (answer, message) in cases.items():
        with (
            VendorServer(answer) as server,
            reader_of(server, lm) as reader,
            pytest.raises(LLMFailure, match=message),
        ):
            reader.check(reader.encode(TEXTS[0]), reader.encode(TEXTS[1]))
        assert len(server.bodies) <= 3, name


def test_a_pair_that_is_too_long_is_never_sent(lm):
    with VendorServer(vllm(lm)) as server, reader_of(server, lm, max_tokens=20) as reader:
        with pytest.raises(BadInput, match="reads 20"):
            reader.read([(reader.encode("bread " * 10), reader.encode("oven " * 10))])
        assert not server.bodies


def test_what_was_answered_before_is_not_asked_again(lm, tmp_path):
    from gnomon.core.llm import LLMConfig, connect, manner

    with VendorServer(vllm(lm)) as server:
        url, _, name = server.endpoint.partition("#")
        llm = connect(GivenLogprobs(url, name, manner=manner(LLMConfig())), LLMConfig(), folder=tmp_path)
        requests = [request_of([0, 5, 7]), request_of([0, 5, 7])]
        first, second = complete(llm, requests[:1]), complete(llm, requests)
        assert len(server.bodies) == 1 and second[0].cached and first[0].text == second[1].text
        assert json.loads(first[0].text)[0] is None
        close(llm)


def test_the_verb_scores_through_a_server(lm, models, corpus, tmp_path, capsys):
    import pyarrow.parquet as pq

    from fixtures_uncertainty_rag import made_documents, write_rows
    from gnomon.core.data.execute import parts

    few = write_rows(tmp_path / "few.jsonl", made_documents(4, sentences=8))
    common = [
        "uncertainty-rag",
        "score",
        few,
        "--id-field",
        "id",
        "--cut.size",
        30,
        "--pool.n-anchors",
        2,
        "--pool.m",
        2,
    ]
    common = [*common, "--pool.n-random", 1, "--quiet", "--no-self-check"]
    with VendorServer(vllm(lm)) as server:
        served = [*common, "--model", server.endpoint, "--tokenizer", models[0], "--out", tmp_path / "served"]
        assert cli.main([str(w) for w in served]) == 0
        assert cli.main([str(w) for w in served]) == 0  # finished: asks nothing
        asked = len(server.bodies)
    assert cli.main([str(w) for w in (*common, "--model", models[0], "--out", tmp_path / "local")]) == 0
    ours, wanted = (
        [r for p in parts(tmp_path / n / "pairs", ".parquet") for r in pq.read_table(p).to_pylist()]
        for n in ("served", "local")
    )
    assert [r["gain"] for r in ours] == pytest.approx([r["gain"] for r in wanted], abs=1e-4) and len(
        ours
    ) == 6
    assert asked <= 2 + 6 + 6 + 2  # the check, calibration, pairs, and the anchors alone
    page = json.loads((tmp_path / "served" / "report.json").read_text())
    assert any(row.get("role") == "scorer" for t in page["tables"] for row in t["rows"])
    assert cli.main([str(w) for w in (*served[:-2], "--workers", 2, "--out", tmp_path / "two")]) == 2
    assert "workers must be 1" in capsys.readouterr().err
