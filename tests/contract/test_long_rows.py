"""A row that is longer than the model reads is left out with its name and counted, in every verb, and changes no other row.

A verb gives rows to a model of this machine when its settings have `too_long`. A new one joins by a line in `commands`.
"""

import json

import pytest

from fixtures_calm import as_rows, made_items, write_rows
from fixtures_vendors import VendorServer, chat
from gnomon import registry
from gnomon.core.too_long import FILE, RowLength
from gnomon.errors import BadInput
from gnomon.lazy import resolve
from gnomon.verbs import run_verb

ELM = [("elm", verb) for verb in ("train", "baseline", "eval", "attack")]
"""Verbs of elm with such rows: their results are numbers over all questions and not rows, and are tested on their own."""

LOCAL = [
    pytest.param(method.slug, verb, id=f"{method.slug} {verb}")
    for method in registry.METHODS
    for verb in method.verbs.split()
    if issubclass(resolve(method.config(verb)), RowLength) and (method.slug, verb) not in ELM
]
POSITIONS = 256
"""Of the model of truth-probes' tests."""


def gnomon(method, verb, *words):
    return run_verb(registry.method(method), verb, [*map(str, words), "--quiet"])


def report(folder):
    return json.loads((folder / "report.json").read_text())


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def listed(folder):
    return [row["id"] for row in lines(folder / FILE)]


@pytest.fixture(scope="module")
def commands(tmp_path_factory, truth_model, truth_questions, checkpoint):
    """(method, verb) -> source without the long row, source with it, other words, file of results, field that names a row."""
    at = tmp_path_factory.mktemp("long")
    questions = lines(truth_questions)
    long = {"question": "what is " + "w7 " * (POSITIONS + 40), "answer": "w1", "id": "long"}
    plain = write_rows(at / "plain.jsonl", questions)
    mixed = write_rows(at / "mixed.jsonl", [*questions[:7], long, *questions[7:]])
    model = ["--model", truth_model, "--max-new-tokens", 6]
    for name, source in (("plain", plain), ("mixed", mixed)):
        words = [*model, "--out", at / f"{name}-answers"]
        assert gnomon("truth-probes", "answer", source, *words) == 0
        assert gnomon("truth-probes", "extract", at / f"{name}-answers", "--out", at / f"{name}-exact") == 0
    # An answer of another model, whose prompt this one cannot read.
    exact = lines(at / "plain-exact" / "answers.jsonl")
    foreign = {**exact[0], "id": "long", "prompt_ids": [0] + [5] * POSITIONS}
    with_foreign = write_rows(at / "foreign.jsonl", [*exact[:7], foreign, *exact[7:]])
    without = write_rows(at / "exact.jsonl", exact)
    assert gnomon("truth-probes", "train", plain, *model, "--seeds", 0, "--out", at / "probe") == 0
    score = [
        {"question": row["question"], "completion": "It is Rome.", "id": row["id"]} for row in questions[:9]
    ]
    scored = write_rows(at / "score.jsonl", score)
    long_scored = write_rows(
        at / "long-score.jsonl", [*score[:3], {**long, "completion": "It is Rome."}, *score[3:]]
    )
    programs = [{"task_id": str(i), "instruction": f"Add {i}."} for i in range(5)]
    short = write_rows(at / "short.jsonl", programs)
    longer = write_rows(at / "longer.jsonl", [*programs, {"task_id": "long", "instruction": "word " * 400}])
    sampled = ["--model", checkpoint("llama"), "--mode", "program", "--gen.n", 2, "--gen.max-new-tokens", 5]
    return {
        ("truth-probes", "answer"): (plain, mixed, model, "answers.jsonl", "id"),
        ("truth-probes", "train"): (plain, mixed, [*model, "--seeds", 0], "usable.jsonl", "id"),
        ("truth-probes", "eval"): (plain, mixed, model, "usable.jsonl", "id"),
        ("truth-probes", "resample"): (plain, mixed, [*model, "--k", 2], "samples.jsonl", "id"),
        ("truth-probes", "represent"): (without, with_foreign, model[:2], "usable.jsonl", "id"),
        ("truth-probes", "score"): (scored, long_scored, model[:2], "scores.jsonl", "id"),
        ("lintseq", "sample"): (short, longer, sampled, "samples", "task_id"),
        "probe": at / "probe",
    }


def run_of(commands, method, verb, source, out, *words):
    _, _, more, file, name = commands[method, verb]
    first = [commands["probe"]] if verb in ("eval", "score") else []
    code = gnomon(method, verb, *first, source, *more, *words, "--out", out)
    path = out / file
    files = sorted(path.glob("part-*.jsonl")) if path.is_dir() else [path]
    return code, [row for part in files for row in lines(part)], name


def without_floats(value):
    if isinstance(value, dict):
        return {name: without_floats(inner) for name, inner in value.items()}
    return (
        [without_floats(v) for v in value]
        if isinstance(value, list)
        else 0.0
        if isinstance(value, float)
        else value
    )


def floats_of(value):
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return [number for v in inner for number in floats_of(v)]
    return [value] if isinstance(value, float) else []


@pytest.mark.slow
@pytest.mark.parametrize(("method", "verb"), LOCAL)
def test_a_long_row_is_left_out_and_changes_no_other(method, verb, commands, tmp_path):
    assert (method, verb) in commands, "a verb with `too_long` needs a line in `commands`"
    plain, mixed, *_ = commands[method, verb]
    _, expected, name = run_of(commands, method, verb, plain, tmp_path / "plain")
    code, rows, _ = run_of(commands, method, verb, mixed, tmp_path / "mixed")
    page = report(tmp_path / "mixed")
    assert code == 0 and page["status"] == "done"  # the same command would leave out the same row
    (row,) = page["shortfalls"]
    assert row["failed"] == 1 and row["final"] and not row["too_much"] and "such as long" in row["reason"]
    assert "1 of" in page["title"] and "left out" in page["title"]
    assert listed(tmp_path / "mixed") == ["long"]
    kept = [row for row in rows if row[name] != "long"]
    if method == "lintseq":  # a row draws by its prompt
        expected, kept = (
            sorted(some, key=lambda row: (row[name], row["sample"])) for some in (expected, kept)
        )
    assert without_floats(kept) == without_floats(expected)
    # Rows that are computed beside others are rounded otherwise.
    assert floats_of(kept) == pytest.approx(floats_of(expected), rel=1e-3, abs=1e-4)
    for row in rows:
        if row[name] == "long":  # a score: the row is there, without a number
            assert row["p_right"] is None and "longer" in row["skipped"]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "verb"), LOCAL)
def test_a_long_row_may_be_cut_or_an_error(method, verb, commands, tmp_path):
    _, mixed, _, _, name = commands[method, verb]
    with pytest.raises(BadInput, match=r'"long(, draw \d+)?" has \d+ tokens.*--too-long to skip or truncate'):
        run_of(commands, method, verb, mixed, tmp_path / "error", "--too-long", "error")
    code, rows, _ = run_of(commands, method, verb, mixed, tmp_path / "cut", "--too-long", "truncate")
    page = report(tmp_path / "cut")
    assert code == 0 and page["status"] == "done" and not page["shortfalls"]
    assert [row["cut"] for row in lines(tmp_path / "cut" / FILE)] == [True]
    if verb not in ("train", "eval"):  # there the exact answer decides whether a row is of use
        assert any(row[name] == "long" for row in rows)


# Questions of elm


@pytest.fixture(scope="module")
def erasable(tmp_path_factory):
    """Words of each verb for a source of questions, and sources without and with a long one."""
    from fixtures_elm import small_model, small_texts, small_tokenizer

    at, tokenizer = tmp_path_factory.mktemp("elm"), small_tokenizer()
    for name, seed in (("base", 0), ("other", 1)):
        small_model(tokenizer, seed).save_pretrained(at / name)
        tokenizer.save_pretrained(at / name)
    for name, texts in zip(("forget", "retain"), small_texts(), strict=True):
        write_rows(at / f"{name}.jsonl", [{"text": text} for text in texts])
    (at / "personas.yaml").write_text(
        "expert: ['text of expert in {concept} :']\nnovice: ['text of novice in {concept} :']\n"
    )
    choices = {"choices": ["zv0", "zv1", "zv2", "zv3"]}
    questions = [{"question": f"z{i % 6} is", "answer": i % 4, **choices} for i in range(6)]
    plain = write_rows(at / "plain.jsonl", questions)
    long = {"question": "z1 " * 300 + "z2 is", "answer": 0, **choices}
    mixed = write_rows(at / "mixed.jsonl", [*questions[:2], long, *questions[2:]])
    texts = [
        "--forget",
        at / "forget.jsonl",
        "--retain",
        at / "retain.jsonl",
        "--min-chars",
        1,
        "--device",
        "cpu",
    ]
    concept = ["--concept", "zor", "--personas", at / "personas.yaml"]
    steps = ["--train.max-steps", 2, "--train.batch-size", 3]
    pair = ["--before", at / "base", "--after", at / "other", "--device", "cpu"]
    pair = [*pair, "--style", "options"]
    texts = [*texts, "--style", "options"]
    words = {
        "train": ["--model", at / "base", *texts, *concept, *steps],
        "baseline": ["--model", at / "base", *texts, *steps, "--method", "ga"],
        "eval": [*pair, *concept],
        "attack": [*pair, "--suffix-questions", 1, "--suffix-steps", 1, "--candidates", 2],
    }
    return words, plain, mixed


@pytest.mark.slow
@pytest.mark.parametrize("verb", [verb for _, verb in ELM])
def test_a_long_question_is_left_out_and_changes_no_number(verb, erasable, tmp_path):
    words, plain, mixed = erasable
    assert gnomon("elm", verb, *words[verb], "--questions", plain, "--out", tmp_path / "plain") == 0
    assert gnomon("elm", verb, *words[verb], "--questions", mixed, "--out", tmp_path / "mixed") == 0
    expected, page = report(tmp_path / "plain"), report(tmp_path / "mixed")
    assert page["figures"] == expected["figures"] and page["status"] == "done"
    (row,) = page["shortfalls"]
    assert (row["what"], row["failed"], row["final"]) == ("questions", 1, True)
    assert len(listed(tmp_path / "mixed")) == 1 and "line 3" in listed(tmp_path / "mixed")[0]
    with pytest.raises(BadInput, match=r"line 3.* has \d+ tokens.*--too-long"):
        gnomon(
            "elm",
            verb,
            *words[verb],
            "--questions",
            mixed,
            "--too-long",
            "error",
            "--out",
            tmp_path / "error",
        )
    cut = ("--questions", mixed, "--too-long", "truncate", "--out", tmp_path / "cut")
    assert gnomon("elm", verb, *words[verb], *cut) == 0
    assert not report(tmp_path / "cut")["shortfalls"] and lines(tmp_path / "cut" / FILE)[0]["cut"]


# Models that are asked over HTTP


def answer(request):
    """What any judge, writer or extractor may say; a prompt with the long word is more than it reads."""
    if "zzz" in request.prompt:
        message = "This model's maximum context length is 4096 tokens; your prompt has more."
        return 400, {"error": {"message": message, "code": "context_length_exceeded"}}
    if "A short text about it." in request.prompt:  # an answer to be labelled
        return 200, chat("1")
    return 200, chat("[[A]] A short text about it. Verdict: PASS")


LONG = "zzz " * 300


@pytest.fixture(scope="module")
def asked(tmp_path_factory, truth_model, truth_questions):
    """(method, verb) -> words of a command whose source has one long row in twelve, and the option that names the model."""
    import fixtures_sigext

    at = tmp_path_factory.mktemp("asked")
    prompts = [{"task_id": str(i), "instruction": f"Add {i}.", "prompt": f"Add {i}."} for i in range(11)]
    write_rows(at / "prompts.jsonl", [*prompts, {"task_id": "long", "instruction": LONG, "prompt": LONG}])
    documents = [vars(row) if not isinstance(row, dict) else row for row in fixtures_sigext.raw_rows(12, 3)]
    documents[4] = {**documents[4], "document": LONG + documents[4]["document"]}
    write_rows(at / "documents.jsonl", documents)
    items = as_rows(made_items(12, sets=("alignment",)))
    items[4]["answer1"] += f" {LONG}"
    write_rows(at / "items.jsonl", items)
    pairs = [{"input": f"Text {i} of the rows.", "output": "A short text."} for i in range(12)]
    pairs[4]["input"] += LONG
    write_rows(at / "rows.jsonl", pairs)
    (at / "prompt.txt").write_text("Shorten: INSERT_INPUT_HERE")
    task = [at / "rows.jsonl", "--prompts", at / "prompt.txt", "--metrics", "rouge1", "--answer-tag", "None"]
    texts = [{"text": f"Sentence {i} of the corpus."} for i in range(12)]
    texts[4]["text"] += f" {LONG}"
    write_rows(at / "texts.jsonl", texts)
    answers = [
        {"id": str(i), "question": f"what is {i}?", "gold": ["x"], "wrong": [], "task": "open", "prompt": "Q", "prompt_ids": [1],
         "answer": "A short text about it.", "output_ids": [2], "logprobs": [0.0], "logits": [0.0], "finish": "stop"}
        for i in range(12)
    ]  # fmt: skip
    answers[4]["question"] += LONG
    write_rows(at / "answers.jsonl", answers)
    return {
        ("sieve", "label"): ([at / "texts.jsonl", "--filter", "climate", "-n", 12], "--judge"),
        ("truth-probes", "extract"): ([at / "answers.jsonl"], "--label"),
        ("lintseq", "sample"): ([at / "prompts.jsonl", "--mode", "program", "--gen.n", 1], "--writer"),
        ("sigext", "summarize"): ([at / "documents.jsonl", "--arms", "none"], "--writer"),
        ("calm", "audit"): ([at / "items.jsonl", "--bias", "position"], "--judge"),
        ("crispo", "evaluate"): (task, "--task"),
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "verb"),
    [
        ("sieve", "label"),
        ("truth-probes", "extract"),
        ("lintseq", "sample"),
        ("sigext", "summarize"),
        ("calm", "audit"),
        ("crispo", "evaluate"),
    ],
)
def test_a_long_prompt_over_http_costs_its_row(method, verb, asked, tmp_path):
    words, role = asked[method, verb]
    with VendorServer(answer) as server:
        code = gnomon(
            method, verb, *words, role, server.endpoint, "--llm.retries", 0, "--out", tmp_path / "run"
        )
    page = report(tmp_path / "run")
    (row,) = [row for row in page["shortfalls"] if row["what"].startswith("prompts of")]
    n = sum("zzz" in request.prompt for request in server.asked)
    assert code == 0 and page["status"] == "done" and not row["too_much"]
    assert row["failed"] == n >= 1 and row["final"] and "maximum context length" in row["reason"]
    assert not any(row["what"].startswith("replies") for row in page["shortfalls"])
