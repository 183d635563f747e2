"""Every verb that asks a language model says before it asks what that costs: calls, tokens and, with prices, money.

A verb is one of them when its settings hold an `LLMConfig`. A new one joins by a line in `commands`.
"""

import json
import socket
import typing

import numpy as np
import pytest
from PIL import Image

import fixtures_sigext
import fixtures_uncertainty_rag
from fixtures_calm import as_rows, made_items, write_rows
from fixtures_crispo import house_files
from gnomon import cli, registry
from gnomon.core.llm import LLMConfig
from gnomon.lazy import resolve
from gnomon.verbs import run_verb

NOBODY = "http://127.0.0.1:9/v1#model"
"""An endpoint at which nothing answers: whoever asks it fails."""

PRICES = ("--llm.price-in", 2, "--llm.price-out", 8)

ASKING = [
    pytest.param(method.slug, verb, id=f"{method.slug} {verb}")
    for method in registry.METHODS
    for verb in method.verbs.split()
    if LLMConfig in typing.get_type_hints(resolve(method.config(verb))).values()
]


@pytest.fixture(scope="module")
def commands(tmp_path_factory, truth_model, truth_questions):
    """(method, verb) -> words of a command, requests that it makes if all goes well, and tokens that their answers may take."""
    from gnomon.methods.truth_probes import ErrorProbe
    from gnomon.methods.truth_probes.probes.probe import LinearProbe

    at = tmp_path_factory.mktemp("costs")
    texts = write_rows(at / "texts.jsonl", [{"text": f"Sentence {i} of the corpus."} for i in range(30)])
    prompts = write_rows(
        at / "prompts.jsonl", [{"task_id": str(i), "instruction": f"Add {i}."} for i in range(4)]
    )
    items = write_rows(at / "items.jsonl", as_rows(made_items(5, sets=("alignment",))))
    documents = write_rows(at / "documents.jsonl", fixtures_sigext.raw_rows(12, 3))
    extractor = fixtures_sigext.train(at / "extractor", fixtures_sigext.save_encoder(at / "encoder"))[0]
    extractor.save_pretrained(at / "sigext")
    house = house_files(at, train=12, dev=12, test=20)
    answers = write_rows(
        at / "answers.jsonl",
        [
            {"id": str(i), "question": f"what is {i}?", "gold": ["x"], "wrong": [], "task": "open", "prompt": "Q",
             "prompt_ids": [1], "answer": "it is y", "output_ids": [2], "logprobs": [0.0], "logits": [0.0], "finish": "stop"}
            for i in range(7)
        ],
    )  # fmt: skip
    retrieval = at / "retrieval"
    retrieval.mkdir()
    scorer, encoder = fixtures_uncertainty_rag.save_models(retrieval)
    corpus = write_rows(retrieval / "docs.jsonl", fixtures_uncertainty_rag.made_documents(4))
    asked = write_rows(retrieval / "questions.jsonl", [{"question": "bread oven"}, {"question": "ships"}])
    index = [
        corpus,
        "--retriever",
        encoder,
        "--cut.unit",
        "words",
        "--cut.size",
        20,
        "--out",
        retrieval / "index",
    ]
    assert run_verb(registry.method("uncertainty-rag"), "index", [*map(str, index), "--quiet"]) == 0
    ErrorProbe(LinearProbe(np.zeros(32), 0.0, np.zeros(32), np.ones(32)), task="open", extract="line").save(
        at / "probe"
    )
    rows = write_rows(
        at / "rows.jsonl", [{"question": f"what is {i}?", "completion": "It is y."} for i in range(9)]
    )
    pairs = write_rows(at / "tasks.jsonl", [{"prompt": f"what is {i}?"} for i in range(4)])
    papers = write_rows(
        at / "papers.jsonl", [{"id": f"p{i}", "title": f"On oven {i}", "year": 2020} for i in range(3)]
    )
    built = [papers, "--encoder", "None", "--out", at / "built"]
    assert run_verb(registry.method("smart-slic"), "build", [*map(str, built), "--quiet"]) == 0
    graded = write_rows(at / "graded.jsonl", [{"question": "How many papers are there?", "answer": 3}])
    for name in ("a", "b"):
        Image.new("RGB", (8, 8)).save(at / f"{name}.png")
    pictures = write_rows(at / "pictures.jsonl", [{"image": f"{name}.png"} for name in ("a", "b")])
    written = write_rows(
        at / "written.jsonl",
        [{"prompt": "what is 1?", "response": "y"}, {"prompt": "what is 2?", "response": "z"}],
    )
    save_selfeval(truth_model, at / "asks")
    truth = ["--model", truth_model, "--label", NOBODY]
    copy = ["--extract", NOBODY]
    n = len(truth_questions.read_text().splitlines())
    task = ["--task", NOBODY]
    return {
        ("sieve", "label"): ([texts, "--filter", "climate", "--judge", NOBODY, "-n", 30, "--repeat", 2], 60, None),
        ("sieve", "fit"): ([texts, "--filter", "climate", "--judge", NOBODY, "--model", "hashed-linear", "--selection.budget", 20,
                            "--selection.batch", 10, "--test", 5], 25, None),
        ("lintseq", "sample"): ([prompts, "--writer", NOBODY, "--gen.n", 3, "--gen.max-new-tokens", 50], 12, 12 * 50),
        ("truth-probes", "answer"): ([truth_questions, *truth], n, 8 * n),
        ("truth-probes", "extract"): ([answers, "--label", NOBODY, *copy], 14, 7 * (8 + 64)),
        ("truth-probes", "train"): ([truth_questions, *truth, *copy], 2 * n, n * (8 + 64)),
        ("truth-probes", "eval"): ([at / "probe", truth_questions, *truth, *copy], 2 * n, n * (8 + 64)),
        ("truth-probes", "resample"): ([truth_questions, *truth, *copy, "--k", 3], 6 * n, 3 * n * (8 + 64)),
        ("truth-probes", "score"): ([at / "probe", rows, "--model", truth_model, *copy], 9, 9 * 64),
        ("sigext", "summarize"): ([documents, "--writer", NOBODY, "--arms", "none", "oracle", "--max-tokens", 90], 24, 24 * 90),
        ("sigext", "tune-k"): ([documents, "--extractor", at / "sigext", "--writer", NOBODY, "--ks", 2, 4, "--percentiles", 50,
                                "--max-tokens", 90], 24, 24 * 90),
        # At most: 1 + 2 prompts on 12 rows of train; on 12 of dev these, the best on train and 3 once more; two on 20 of test;
        # that is 160 answers of 512 tokens, then 3 critiques and 2 proposals of 1024.
        ("crispo", "optimize"): ([*house, *task, "--steps", 1, "--per-step", 2, "--dev-every", 1, "--metrics", "rouge1"],
                                 165, 160 * 512 + 5 * 1024),
        ("crispo", "suffix"): ([*house[:5], "--main", at / "seed.txt", *task, "--steps", 1, "--metrics", "rouge1"], None, None),
        ("crispo", "evaluate"): ([house[0], "--prompts", at / "seed.txt", *task, "--metrics", "rouge1", "--repeat", 2],
                                 24, 24 * 512),
        ("uncertainty-rag", "score"): ([corpus, "--model", NOBODY, "--tokenizer", scorer, "--cut.size", 30, "--pool.n-anchors", 3,
                                        "--pool.m", 4, "--pool.n-random", 2], 3 * 6 + 3, 3 * 6 + 3),
        ("uncertainty-rag", "ask"): ([retrieval / "index", "--answerer", NOBODY, "--questions", asked, "--max-tokens", 32],
                                     2, 2 * 32),
        ("adaptive-sampling", "build"): ([prompts, "--model", truth_model, "--reward", f"judge:{NOBODY}", "--k", 3,
                                          "--anneal", "constant",
                                          "--gen.max-new-tokens", 4], 4 * 3 * 2, 4 * 3 * 2 * 8),
        ("adaptive-sampling", "score"): ([at / "asks", written, "--server", NOBODY], 4, 4),
        ("cloc", "label"): ([pictures, "--detector", "nowhere", "--captioner", NOBODY], 2, 2 * 120),
        ("smart-slic", "ask"): ([at / "built", "--question", "What is baked?", "--planner", NOBODY, "--steps", 4], 4, 4 * 150),
        ("smart-slic", "eval"): ([at / "built", graded, "--planner", NOBODY], 6, 6 * 150),
        ("ma-rlhf", "train"): ([pairs, "--model", truth_model, "--reward", f"judge:{NOBODY}", "--ppo.gen.n", 2,
                                "--train.batch-size", 4, "--ppo.gen.max-new-tokens", 4, "--train.max-length", 60,
                                "--train.max-steps", 3, "--train.epochs", 9], 3 * 2 * 2, 3 * 2 * 2 * 8),
        ("ma-rlhf", "eval"): ([pairs, "--model", truth_model, "--against", scorer, "--reward", "regex:x", "--judge", NOBODY,
                               "--gen.max-new-tokens", 4, "--pairs", 3], 3 * 2, 3 * 2 * 8),
        ("calm", "perturb"): ([items, "--bias", "authority", "--writer", NOBODY], None, None),
        ("calm", "audit"): ([items, "--bias", "bandwagon", "--judge", NOBODY, "--max-tokens", 100], None, None),
    }  # fmt: skip


def save_selfeval(model_folder, folder):
    """A self-evaluator that was taught nothing, as `adaptive-sampling train` saves one."""
    from gnomon.core.models import load_model, load_tokenizer
    from gnomon.methods.adaptive_sampling import Restart, SelfEvaluator, new_carrier, save_evaluator
    from gnomon.methods.adaptive_sampling.evaluator.store import About

    model, tokenizer = load_model(model_folder, device="cpu"), load_tokenizer(model_folder)
    carrier = new_carrier("token", model, tokenizer)
    save_evaluator(
        SelfEvaluator(model, tokenizer, carrier, Restart("constant", 1.0)),
        About("soft", 0.0, "exact", ""),
        folder,
    )


def planned(method, verb, words, capsys):
    words = [*map(str, words), "--dry-run", "--json", "--quiet"]
    assert run_verb(registry.method(method), verb, words) == 0
    return json.loads(capsys.readouterr().out)["plan"]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "verb"), ASKING)
def test_a_dry_run_says_calls_tokens_and_money_and_asks_nobody(
    method, verb, commands, tmp_path, monkeypatch, capsys
):
    assert (method, verb) in commands, "a verb that asks a language model needs a line in `commands`"
    words, calls, tokens_out = commands[method, verb]
    monkeypatch.setattr(socket.socket, "connect", None)  # nobody is asked
    words = [*words, "--out", tmp_path / "run"]
    plan = planned(method, verb, [*words, *PRICES], capsys)
    assert (
        plan["calls"] > 0
        and plan["tokens_in"] >= plan["calls"]
        and plan["tokens_out_at_most"] >= plan["calls"]
    )
    assert plan["usd_at_most"] == pytest.approx(
        (2 * plan["tokens_in"] + 8 * plan["tokens_out_at_most"]) / 1e6, abs=1e-6
    )
    if calls is not None:
        assert plan["calls"] == calls
    if tokens_out is not None:
        assert plan["tokens_out_at_most"] == tokens_out
    thinking = planned(method, verb, [*words, "--llm.thinking-tokens", 1000], capsys)
    assert thinking["tokens_out_at_most"] == plan["tokens_out_at_most"] + 1000 * plan["calls"]
    assert thinking["usd_at_most"] == "unknown without --llm.price-in and --llm.price-out"
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("method", "verb"), ASKING)
def test_an_endpoint_that_is_not_there_ends_a_verb_with_code_1_and_a_report(
    method, verb, commands, tmp_path, capsys
):
    """One sentence on the terminal; in the report what was asked, why it ended and what is kept. Repeated, it is not finished."""
    words = [method, verb, *commands[method, verb][0], "--llm.retries", 0, "--out", tmp_path / "run"]
    for _ in range(2):
        assert cli.main([str(word) for word in words]) == 1
        out, err = capsys.readouterr()
        report = json.loads((tmp_path / "run" / "report.json").read_text())
        assert report["status"] == "failed" and "127.0.0.1:9" in report["ended"]
        assert err.splitlines()[-1] == f"gnomon: {report['ended']}" and "report.html" in out
        assert any(row["what"].startswith("replies of") and row["too_much"] for row in report["shortfalls"])
        assert "ended early" in report["title"] and (tmp_path / "run" / "report.html").exists()
        assert any(row.get("role") for table in report["tables"] for row in table["rows"])


@pytest.mark.slow
def test_a_score_of_lines_that_come_says_what_one_of_them_costs(commands, tmp_path, capsys):
    probe, _, *words = commands["truth-probes", "score"][0]
    plan = planned("truth-probes", "score", [probe, *words, *PRICES, "--out", tmp_path / "run"], capsys)
    assert (plan["calls"], plan["tokens_out_at_most"]) == (1, 64) and "one row" in plan["counted"]
