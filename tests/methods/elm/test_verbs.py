"""The verbs as a user types them."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import fixtures_process
from fixtures_elm import small_model, small_texts, small_tokenizer
from gnomon.core import records
from gnomon.core.models import load_model
from gnomon.errors import UserError
from gnomon.registry import method
from gnomon.verbs import run_verb

ELM = method("elm")


def elm(verb, *words):
    return run_verb(ELM, verb, [*map(str, words), "--quiet"])


def report(folder):
    return json.loads((folder / "report.json").read_text())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A model and files of everything that verbs read."""
    folder = tmp_path_factory.mktemp("elm")
    tokenizer = small_tokenizer()
    for name, seed in (("base", 0), ("judge", 1)):
        small_model(tokenizer, seed).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    forget, retain = small_texts()
    records.write(folder / "forget.jsonl", [{"text": text} for text in forget])
    records.write(folder / "retain.jsonl", [{"text": text} for text in retain])
    (folder / "personas.yaml").write_text(
        "expert: ['text of expert in {concept} :']\nnovice: ['text of novice in {concept} :']\n"
    )
    questions = [
        {"question": f"z{i % 6} is", "choices": ["zv0", "zv1", "zv2", "zv3"], "answer": i % 4}
        for i in range(6)
    ]
    (folder / "q.json").write_text(json.dumps(questions))
    return folder


def common(data):
    return ["--concept", "zor", "--personas", data / "personas.yaml"]


def training(data):
    return [
        "--model", data / "base", "--forget", data / "forget.jsonl", "--retain", data / "retain.jsonl", "--min-chars", 1,
        "--train.max-steps", 3, "--train.batch-size", 3, "--train.lr", 0.01, "--device", "cpu",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def erased(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("erased") / "run"
    words = [*common(data), *training(data), "--eta", 2, "--top-k", 8, "--layers", "0,2"]
    assert elm("train", *words, "--out", out) == 0
    return out


def test_train_leaves_an_adapter_that_peft_loads_alone(erased, data):
    assert report(erased)["status"] == "done"
    names = {path.name for path in (erased / "model").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "elm_config.json"} <= names
    script = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "import sys, torch\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n"
        f"base = AutoModelForCausalLM.from_pretrained({str(data / 'base')!r})\n"
        f"model = PeftModel.from_pretrained(base, {str(erased / 'model')!r}).eval()\n"
        "with torch.no_grad(): print(model(torch.tensor([[5, 6, 7]])).logits[0, -1].tolist())\n"
        "assert not any(name.startswith('gnomon') for name in sys.modules)\n"
    )
    done = fixtures_process.run([sys.executable, "-c", script])
    assert done.returncode == 0, done.stderr
    told = torch.tensor(json.loads(done.stdout.strip().splitlines()[-1]))
    with torch.no_grad():
        mine = load_model(erased, device="cpu")(torch.tensor([[5, 6, 7]])).logits[0, -1]
        before = load_model(data / "base", device="cpu")(torch.tensor([[5, 6, 7]])).logits[0, -1]
    assert torch.allclose(told, mine, atol=1e-6)
    assert not torch.allclose(told, before, atol=1e-4)


test_train_leaves_an_adapter_that_peft_loads_alone = pytest.mark.slow(
    test_train_leaves_an_adapter_that_peft_loads_alone
)


def test_metrics_hold_every_term(erased):
    rows = [json.loads(line) for line in (erased / "metrics.jsonl").read_text().splitlines()]
    terms = [row for row in rows if "erase" in row]
    assert [row["step"] for row in terms] == [1, 2, 3]
    assert {"retain", "support", "gradient of erase"} < set(terms[0])


def test_merge_computes_the_same(erased, data, tmp_path):
    assert elm("merge", erased, "--out", tmp_path / "merged") == 0
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        one = load_model(erased, device="cpu")(ids).logits
        other = load_model(tmp_path / "merged", device="cpu")(ids).logits
    assert torch.allclose(one, other, atol=1e-5)
    assert not (tmp_path / "merged" / "model" / "adapter_config.json").exists()
    # The judge has the base's config and other weights.
    with pytest.raises(UserError, match="trained on a model of other weights"):
        elm("merge", erased, "--base", data / "judge", "--out", tmp_path / "wrong")
    with pytest.raises(UserError, match="holds no adapter"):
        elm("merge", tmp_path / "merged", "--out", tmp_path / "again")


def test_target_shows_tokens_and_the_eta_table(data, tmp_path):
    words = ["z1 is zv2 . the cat", *common(data), "--model", data / "base", "--top-k", 8, "--device", "cpu"]
    assert elm("target", *words, "--etas", 1, 100, "--out", tmp_path / "run") == 0
    found = json.loads((tmp_path / "run" / "target.json").read_text())
    assert [row["token"] for row in found["positions"]] == ["z1", " is", " zv2", " .", " the", " cat"]
    assert [row["eta"] for row in found["etas"]] == [1, 100]
    assert found["etas"][0]["mean support"] >= found["etas"][1]["mean support"] >= 1
    file = tmp_path / "text.txt"
    file.write_text("z1 is")
    assert elm("target", file, *words[1:], "--out", tmp_path / "file") == 0
    assert len(json.loads((tmp_path / "file" / "target.json").read_text())["positions"]) == 2


def test_fluency_data_is_written_and_learned(data, tmp_path):
    words = [
        *common(data), "--model", data / "base", "--forget", data / "forget.jsonl", "--count", 5, "--chars", 5, 20,
        "--tokens", 3, 6, "--no-topics", "--batch-size", 2, "--device", "cpu",
    ]  # fmt: skip
    assert elm("fluency-data", *words, "--out", tmp_path / "fluent") == 0
    rows = [raw for _, raw in records.read_raw(tmp_path / "fluent")]
    assert len(rows) == 5
    assert set(rows[0]) == {"prompt", "continuation"}
    more = [*common(data), *training(data), "--top-k", 8, "--fluency", tmp_path / "fluent"]
    assert elm("train", *more, "--out", tmp_path / "run") == 0
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert any("fluency" in json.loads(line) for line in lines)


def test_eta_is_picked_on_half_of_the_questions(data, tmp_path):
    words = [
        *common(data),
        *training(data),
        "--top-k",
        8,
        "--questions",
        data / "q.json",
        "--style",
        "options",
        "--pick-eta",
        1,
        4,
    ]
    assert elm("train", *words, "--out", tmp_path / "run") == 0
    tables = report(tmp_path / "run")["tables"]
    picked = next(t["rows"] for t in tables if t["caption"].startswith("eta picked"))
    assert [row["eta"] for row in picked] == [1, 4]
    assert 0 < picked[0]["questions"] < 6
    kept = json.loads((tmp_path / "run" / "model" / "elm_config.json").read_text())["eta"]
    assert kept == min(picked, key=lambda row: row["off chance"])["eta"]


@pytest.mark.parametrize("method", ["rmu", "whp"])
def test_baseline_leaves_a_full_checkpoint(data, tmp_path, method):
    words = [*training(data), "--method", method, "--whp-steps", 2]
    assert elm("baseline", *words, "--out", tmp_path / "run") == 0
    assert (tmp_path / "run" / "model" / "config.json").exists()
    before, after = (load_model(ref, device="cpu") for ref in (data / "base", tmp_path / "run"))
    same = [torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True)]
    assert sum(not one for one in same) == (3 if method == "rmu" else len(same))
    assert ("whp-simplified" in report(tmp_path / "run")["title"]) == (method == "whp")


def test_eval_reports_a_pair(erased, data, tmp_path):
    words = [
        data / "base", erased, "--questions", data / "q.json", "--style", "options", "--prompts", data / "forget.jsonl",
        "--retain", data / "retain.jsonl", "--judge", data / "judge", *common(data), "--max-new-tokens", 4, "--limit", 3,
    ]  # fmt: skip
    assert (
        elm(
            "eval",
            "--before",
            *words[:1],
            "--after",
            *words[1:],
            "--device",
            "cpu",
            "--out",
            tmp_path / "run",
        )
        == 0
    )
    found = json.loads((tmp_path / "run" / "erasure_report.json").read_text())
    assert found["before"]["innocence"]["forget"]["questions"] == 6
    assert found["before"]["seamlessness"]["R-PPL"] > 1
    assert found["after"]["specificity"]["KL per token, retain"] > 0
    assert "erasure_report" in report(tmp_path / "run")["artifacts"]
    assert "no guarantee of safety" in (tmp_path / "run" / "report.html").read_text()


def test_attack_searches_and_relearns(erased, data, tmp_path):
    words = [
        "--before", data / "base", "--after", erased, "--questions", data / "q.json", "--style", "options", "--forget",
        data / "forget.jsonl", "--suffix-questions", 1, "--suffix-steps", 2, "--suffix-length", 2, "--candidates", 4,
        "--relearn-steps", 1, 2, "--device", "cpu",
    ]  # fmt: skip
    assert elm("attack", *words, "--out", tmp_path / "run") == 0
    found = json.loads((tmp_path / "run" / "attacks.json").read_text())
    assert set(found) == {"before", "after"}
    assert [point["steps"] for point in found["after"]["relearning"]] == [0, 1, 2]
    assert found["after"]["suffix"]["questions"] == 1


@pytest.mark.slow
def test_a_pair_of_other_weights_is_refused_by_name(erased, data, tmp_path):
    # The judge has the base's classes, sizes and words, and other weights.
    assert elm("baseline", *training(data), "--method", "ga", "--out", tmp_path / "ga") == 0
    questions = ["--questions", data / "q.json", "--device", "cpu", "--style", "options"]
    bare = tmp_path / "bare"  # an adapter that others wrote
    shutil.copytree(erased / "model", bare)
    (bare / "elm_config.json").unlink()
    for verb in ("eval", "attack"):
        more = ["--suffix-questions", 0] if verb == "attack" else []
        for after, words in (
            (erased, "The adapter in"),
            (bare, "The adapter in"),
            (tmp_path / "ga", "was made from"),
        ):
            with pytest.raises(UserError) as caught:
                pair = ["--before", data / "judge", "--after", after]
                elm(verb, *pair, *questions, *more, "--out", tmp_path / f"x-{verb}-{after.name}")
            message = str(caught.value)
            assert words in message and str(after) in message and str(data / "judge") in message, message
            assert str(data / "base") in message
            pair = ["--before", data / "base", "--after", after]
            assert elm(verb, *pair, *questions, *more, "--out", tmp_path / f"{verb}-{after.name}") == 0
    # The folder that the adapter names has other weights by now: both sides of the pair would be wrong alike.
    moved = tmp_path / "moved"
    shutil.copytree(erased / "model", moved)
    about = json.loads((moved / "adapter_config.json").read_text())
    (moved / "adapter_config.json").write_text(
        json.dumps(about | {"base_model_name_or_path": str(data / "judge")})
    )
    with pytest.raises(UserError, match=r"with other weights than .*judge has"):
        elm("eval", "--before", data / "judge", "--after", moved, *questions, "--out", tmp_path / "y")


def test_bad_requests_are_told(data, tmp_path):
    pair = ["--before", data / "base", "--after", data / "base", "--device", "cpu"]
    with pytest.raises(UserError, match="nothing to measure"):
        elm("eval", *pair, "--out", tmp_path / "a")
    with pytest.raises(UserError, match="is one of the two models"):
        elm("eval", *pair, "--questions", data / "q.json", "--judge", data / "base", "--out", tmp_path / "b")
    with pytest.raises(UserError, match="concept must be at least one keyword"):
        elm("train", "--concept", " ", *training(data), "--out", tmp_path / "c")
    with pytest.raises(UserError, match="questions must be named with --pick-eta"):
        elm("train", *common(data), *training(data), "--pick-eta", 1, "--out", tmp_path / "d")
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    words = training(data)
    words[words.index("--forget") + 1] = empty
    with pytest.raises(UserError, match="holds 0 texts"):
        elm("train", *common(data), *words, "--out", tmp_path / "e")
    with pytest.raises(UserError, match="top_k must be at most"):
        elm("train", *common(data), *training(data), "--top-k", 5000, "--out", tmp_path / "f")


def test_a_dry_run_counts_and_writes_nothing(data, tmp_path, capsys):
    out = tmp_path / "run"
    assert elm("train", *common(data), *training(data), "--dry-run", "--json", "--out", out) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert (plan["forget_texts"], plan["retain_texts"], plan["optimiser_steps"]) == (9, 9, 3)
    assert not Path(out).exists()


def test_a_concept_that_was_not_erased_is_reported_so(data, tmp_path):
    """A training that hardly moves the model: the title, the sentence and the numbers all say so."""
    tokenizer = small_tokenizer()
    base = load_model(data / "base", device="cpu")
    prompts = [f"z{i} is" for i in range(6)]
    with torch.no_grad():
        likes = [base(tokenizer(text, return_tensors="pt")["input_ids"]).logits[0, -1] for text in prompts]
    values = [f"zv{i}" for i in range(4)]
    scores = [[row[tokenizer(value)["input_ids"][0]] for value in values] for row in likes]
    known = [
        {"question": text, "choices": values, "answer": max(range(4), key=row.__getitem__)}
        for text, row in zip(prompts, scores, strict=True)
    ]
    (tmp_path / "known.json").write_text(json.dumps(known))  # what the base answers rightly, all of it
    words = [*common(data), *training(data), "--top-k", 8, "--style", "options", "--train.lr", 1e-9]
    assert elm("train", *words, "--questions", tmp_path / "known.json", "--out", tmp_path / "asked") == 0
    page = (tmp_path / "asked" / "report.html").read_text()
    assert report(tmp_path / "asked")["title"] == "Not erased: zor"
    assert "accuracy 1.00 before and 1.00" in page
    assert elm("train", *words, "--out", tmp_path / "unasked") == 0
    assert report(tmp_path / "unasked")["title"] == "Not erased: zor"  # forget texts are as likely as before
    moved = [*training(data), "--method", "ga", "--train.lr", 0.01, "--out", tmp_path / "moved"]
    assert elm("baseline", *moved) == 0
    assert report(tmp_path / "moved")["title"].startswith("Trained to erase: ")
    words = [*training(data), "--method", "ga", "--train.lr", 1e-9, "--questions", tmp_path / "known.json"]
    assert elm("baseline", *words, "--style", "options", "--out", tmp_path / "ga") == 0
    assert report(tmp_path / "ga")["title"].startswith("Not erased: ")
    pair = ["--before", data / "base", "--after", tmp_path / "ga", "--device", "cpu", "--style", "options"]
    assert elm("eval", *pair, "--questions", tmp_path / "known.json", "--out", tmp_path / "eval") == 0
    assert "<strong>not erased</strong>" in (tmp_path / "eval" / "report.html").read_text()


def test_personas_that_agree_stop_a_training_before_it_begins(data, tmp_path):
    same = tmp_path / "same.yaml"
    same.write_text("expert: ['text of expert in {concept} :']\nnovice: ['text of expert in {concept} :']\n")
    with pytest.raises(UserError, match=r"as a novice just as it does as an expert \(KL 0 nats"):
        elm("train", "--concept", "zor", "--personas", same, *training(data), "--out", tmp_path / "run")


@pytest.mark.slow
def test_a_table_of_the_family_says_where_blocks_are(erased, data, tmp_path):
    table = {"blocks": "model.layers", "final_norm": "model.norm", "attn_out": "self_attn", "mlp_out": "mlp"}
    (tmp_path / "right.json").write_text(json.dumps(table))
    (tmp_path / "wrong.json").write_text(json.dumps({**table, "blocks": "model.blocks"}))
    words = [*common(data), *training(data), "--eta", 2, "--top-k", 8, "--layers", "0,2"]
    assert elm("train", *words, "--family", tmp_path / "right.json", "--out", tmp_path / "right") == 0
    one, other = (
        load_file(folder / "model" / "adapter_model.safetensors") for folder in (erased, tmp_path / "right")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    for verb, more in (("train", words), ("baseline", [*training(data), "--method", "rmu"])):
        with pytest.raises(UserError, match=r"model\.blocks"):
            elm(verb, *more, "--family", tmp_path / "wrong.json", "--out", tmp_path / verb)
