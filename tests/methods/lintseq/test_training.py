import json
import os
import random
import sys

import pytest
import torch
from transformers import AddedToken

import fixtures_process
from fixtures_models import FAMILIES
from gnomon import cli
from gnomon.core.models import add_token, load_model, load_tokenizer
from gnomon.core.models.sampling.text import completion_text
from gnomon.core.rng import Rng
from gnomon.core.train import TrainConfig
from gnomon.core.train.batches import Batches
from gnomon.errors import BadInput
from gnomon.methods.lintseq import DIFF_TOKEN, edit_pair, program_pair, render_target, resolve, sample_edits
from gnomon.methods.lintseq.models import Examples, encode, matched, prompt_ids

CODE = "def add(a, b):\n    c = a + b\n    return c"
EOS, DIFF = 1, 300


@pytest.fixture
def edit_tokenizer(checkpoint):
    """The tiny tokenizer with the diff token, of one's own."""
    tokenizer = load_tokenizer(checkpoint("llama"))
    tokenizer.add_tokens([DIFF_TOKEN])
    return tokenizer


def split_row(row):
    """Prompt ids and target ids of an example, which must be all there is."""
    n_prompt = sum(label == -100 for label in row.labels)
    assert list(row.labels) == [-100] * n_prompt + list(row.input_ids[n_prompt:])
    return list(row.input_ids[:n_prompt]), list(row.input_ids[n_prompt:])


def paths_of(n, *, samples=1, extra=""):
    """Edit records of small programs, as `generate` writes them."""
    rows = []
    for index in range(n):
        code = f"def f{index}(a):\n    b = a + {index}\n    return b{extra}"
        for path_id in range(samples):
            diffs = sample_edits(code, linter="pyflakes", rng=random.Random(7 * index + path_id)).diffs
            rows.append(
                {"edit_path": diffs, "index": index, "path_id": path_id, "source_instruction": f"Add {index}.",
                 "source_response": code}
            )  # fmt: skip
    return rows


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_pitfall_9_the_mask_is_exact_where_prompt_and_target_would_melt_into_one_token(tiny_tokenizer):
    pair = program_pair("Body:\n", "    return a", 0)
    (row,) = encode([pair], tiny_tokenizer, max_length=100).rows
    prompt, target = split_row(row)
    together = tiny_tokenizer(pair.instruction + pair.target)["input_ids"]
    assert together[: len(prompt)] != prompt  # the newline and the indentation are one token
    assert tiny_tokenizer.decode(prompt) == "Body:\n"
    assert tiny_tokenizer.decode(target[:-1]) == "    return a"
    assert target[-1] == tiny_tokenizer.eos_token_id == EOS


def test_pitfall_9_the_target_of_edits_begins_at_the_newline(edit_tokenizer):
    diffs = ["@@ -0,0 +1 @@\n+x = 1"]
    (row,) = encode([edit_pair("Set x.\n", diffs, 0)], edit_tokenizer, max_length=100).rows
    prompt, target = split_row(row)
    assert edit_tokenizer.decode(prompt) == "Set x.\n"
    assert edit_tokenizer.decode(target[:-1]) == "\n<|diff|>@@ -0,0 +1 @@\n+x = 1\n<|diff|>\n<|diff|>"
    assert target.count(DIFF) == 3


@pytest.mark.parametrize("instruction", ["Set x.", "Set x.\n", "Set x.\n\n", "  ", ""])
@pytest.mark.parametrize("mode", ["editseq", "program"])
def test_pitfall_9_a_sampling_prompt_is_how_training_begins(edit_tokenizer, instruction, mode):
    make, told = (edit_pair, [f"@@ -0,0 +1,3 @@\n+{CODE}"]) if mode == "editseq" else (program_pair, CODE)
    (row,) = encode([make(instruction, told, 0)], edit_tokenizer, max_length=200).rows
    begin = prompt_ids(instruction, edit_tokenizer, mode)
    assert list(row.input_ids[: len(begin)]) == begin
    assert begin.count(DIFF) == (mode == "editseq")


@pytest.mark.parametrize(
    ("instruction", "code", "prompt"),
    [
        ("Add.", "x = 1", "Add.\n"),
        ("Add.\n", "x = 1", "Add.\n"),
        ("Add. ", "x = 1", "Add. "),
        ("Add.", "\nx = 1", "Add."),
        ("", "x = 1", ""),
    ],
)
def test_c10_a_newline_stands_where_neither_side_has_white_space(instruction, code, prompt):
    assert program_pair(instruction, code, 0).instruction == prompt


def sentencepiece_like():
    """A tokenizer that puts a space before every text and behind every added token, as Llama 2's and Phi-3's do."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    letters = [chr(code) for code in range(33, 127)]
    pieces = ["<s>", "</s>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *letters, "▁d", "▁@"]
    vocab = {piece: number for number, piece in enumerate(pieces)}
    inner = Tokenizer(models.BPE(vocab, [("▁", "d"), ("▁", "@")], byte_fallback=True, unk_token="<unk>"))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="</s>", unk_token="<unk>"
    )


@pytest.mark.parametrize("mode", ["editseq", "program"])
def test_a_tokenizer_that_puts_spaces_before_words_keeps_targets_exact(mode):
    """Else every generated program would begin with a space, and every hunk be malformed."""
    tokenizer = sentencepiece_like()
    tokenizer.add_tokens([AddedToken(DIFF_TOKEN, special=False, normalized=False)])  # as `add_token` does
    assert tokenizer.convert_ids_to_tokens(tokenizer("def")["input_ids"])[0].startswith("▁")
    diffs = ["@@ -0,0 +1,2 @@\n+def add(a, b):\n+    return c", "@@ -1,0 +2 @@\n+    c = a + b"]
    make, told = (edit_pair, diffs) if mode == "editseq" else (program_pair, CODE)
    (row,) = encode([make("Set x.", told, 0)], tokenizer, max_length=200).rows
    begin = prompt_ids("Set x.", tokenizer, mode)
    assert list(row.input_ids[: len(begin)]) == begin
    written = completion_text(tokenizer, begin, row.input_ids[len(begin) :])
    assert (resolve(written, strict=True).code if mode == "editseq" else written) == CODE


def test_targets_of_a_released_sentencepiece_model_are_exact(shared_data):
    folder = shared_data / "models" / "stories260K"
    model, tokenizer = load_model(folder, device="cpu"), load_tokenizer(folder)
    add_token(model, tokenizer, DIFF_TOKEN)
    (row,) = encode(
        [edit_pair("Add.", [f"@@ -0,0 +1,3 @@\n+{CODE}".replace("\n ", "\n+ ")], 0)],
        tokenizer,
        max_length=300,
    ).rows
    begin = prompt_ids("Add.", tokenizer, "editseq")
    assert list(row.input_ids[: len(begin)]) == begin
    assert resolve(completion_text(tokenizer, begin, row.input_ids[len(begin) :]), strict=True).code == CODE


def test_pitfall_10_long_examples_are_left_out_or_cut_and_counted_either_way(tiny_tokenizer):
    pairs = [
        program_pair("Do:\n", "x = 1", 0),
        program_pair("Do:\n", "y = 2\n" * 30, 1),
        program_pair("Do it " * 40, "x", 2),
    ]
    short = encode(pairs, tiny_tokenizer, max_length=30)
    assert (len(short.rows), short.n_truncated, short.n_groups) == (1, 2, 1)
    assert short.n_target_tokens == len(tiny_tokenizer("x = 1")["input_ids"]) + 1
    kept = encode(pairs, tiny_tokenizer, max_length=30, keep_truncated=True)
    assert (len(kept.rows), kept.n_truncated, kept.n_groups) == (
        2,
        2,
        2,
    )  # the third has no room for a target
    assert len(kept.rows[1].input_ids) == 30
    assert EOS not in kept.rows[1].input_ids
    exact = len(short.rows[0].input_ids)
    assert encode(pairs[:1], tiny_tokenizer, max_length=exact).n_truncated == 0


@pytest.mark.parametrize("keep", [False, True])
def test_pitfall_10_no_example_that_fits(tiny_tokenizer, keep):
    with pytest.raises(
        BadInput, match=r"None of the examples .* --train.max-length 4 \(1 are longer\). Raise it."
    ):
        encode(
            [program_pair("Do it, please:\n", "x = 1", 0)], tiny_tokenizer, max_length=4, keep_truncated=keep
        )


def examples(n_programs, per_program):
    from gnomon.core.train import Example

    rows = [Example([1, 2], [-100, 2])] * (n_programs * per_program)
    return Examples(rows, 0, len(rows), n_programs)


def rows_seen(cfg, made):
    """How many examples the loop computes under `cfg`, counted on the batches themselves."""
    batches = Batches(made.rows, cfg.batch_size, pad_id=0, generator=Rng(0))
    steps = min(cfg.epochs * len(batches), cfg.max_steps)
    return sum(len(batches.rows(step)) for step in range(steps))


def test_epochs_are_matched_as_in_the_paper():
    edits = matched(TrainConfig(batch_size=512), examples(1024, 5), 10)
    whole = matched(TrainConfig(batch_size=512), examples(1024, 1), 10)
    assert (edits.epochs, edits.max_steps) == (2, 20)
    assert (whole.epochs, whole.max_steps) == (10, 20)


@pytest.mark.parametrize("batch_size", [1, 7, 64, 512])
@pytest.mark.parametrize("n", [1, 40, 600])
@pytest.mark.parametrize("s", [1, 2, 5])
def test_both_arms_see_each_program_equally_often_whatever_the_batches(n, s, batch_size):
    cfg = TrainConfig(batch_size=batch_size)
    made = examples(n, s)
    assert rows_seen(matched(cfg, made, 10), made) == 10 * n


def test_passes_that_are_no_whole_epochs_are_met_within_a_batch():
    made = examples(100, 3)
    cfg = matched(TrainConfig(batch_size=16), made, 10)  # 1000 rows: 3 epochs and a third
    assert cfg.epochs == 4
    assert abs(rows_seen(cfg, made) - 1000) <= 8


def test_fewer_steps_can_be_asked_for_and_epochs_left_alone():
    assert matched(TrainConfig(batch_size=16, max_steps=3), examples(100, 1), 10).max_steps == 3
    cfg = TrainConfig(epochs=4)
    assert matched(cfg, examples(100, 1), None) is cfg


def train(*words):
    return cli.main(["lintseq", "train", *map(str, words), "--device", "cpu", "--quiet"])


@pytest.mark.slow
def test_c11_the_summed_loss_is_what_the_verb_trains_with(tmp_path, checkpoint):
    """A sum over tokens: the first gradient is as many times the mean's as the batch has targets."""
    data = write_rows(tmp_path / "edits.jsonl", paths_of(3))
    norms = {}
    for name in ("sum", "token_mean"):
        words = [
            "--out",
            tmp_path / name,
            "--train.max-steps",
            "1",
            "--train.max-length",
            "120",
            "--train.warmup-ratio",
            "0",
        ]
        more = [] if name == "sum" else ["--train.reduction", name]  # the sum is the default
        assert train(data, "--model", checkpoint("llama"), *words, *more) == 0
        norms[name] = json.loads((tmp_path / name / "metrics.jsonl").read_text())["grad_norm"]
    report = json.loads((tmp_path / "sum" / "report.json").read_text())
    assert norms["sum"] / norms["token_mean"] == pytest.approx(report["figures"]["target tokens"], rel=1e-4)


RELOAD = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
told = {}
for folder in sys.argv[2:]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = tokenizer(sys.argv[1])["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, -1].tolist()
    told[folder] = {"ids": ids, "back": tokenizer.decode(ids, skip_special_tokens=True), "logits": logits}
print(json.dumps(told))
"""
TEXT = f"Add 1.{render_target(['@@ -0,0 +1,2 @@' + chr(10) + '+x = 1' + chr(10) + '+y = 2'])}"


@pytest.fixture(scope="module")
def tuned(checkpoint, tmp_path_factory):
    """Family -> the run that tuned it on edits, and what a fresh process without gnomon gets from the saved model."""
    folder = tmp_path_factory.mktemp("tuned")
    data = write_rows(folder / "edits.jsonl", paths_of(4))
    settings = ["--train.batch-size", "4", "--passes", "4", "--train.max-length", "120", "--train.lr", "0.01"]
    for family in FAMILIES:
        assert train(data, "--model", checkpoint(family), "--out", folder / family, *settings) == 0
    models = [str(folder / family / "model") for family in FAMILIES]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", RELOAD, TEXT, *models]
    done = fixtures_process.run(command, env=env)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    return {family: (folder / family, told[model]) for family, model in zip(FAMILIES, models, strict=True)}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns_edits_and_reloads_without_gnomon(family, tuned):
    run, fresh = tuned[family]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert fresh["back"] == TEXT
    assert fresh["ids"].count(DIFF) == TEXT.count(DIFF_TOKEN) == 3
    with torch.no_grad():
        here = load_model(run / "model", device="cpu")(torch.tensor([fresh["ids"]])).logits[0, -1].tolist()
    assert fresh["logits"] == here


@pytest.mark.slow
def test_adapters_alone_are_trained_and_saved(checkpoint, tmp_path):
    base = checkpoint("llama")
    data = write_rows(tmp_path / "edits.jsonl", paths_of(4))
    words = [
        "--train.lora-rank",
        "2",
        "--passes",
        "2",
        "--train.batch-size",
        "4",
        "--train.max-length",
        "120",
    ]
    before = (base / "model.safetensors").read_bytes()
    assert train(data, "--model", base, "--out", tmp_path / "run", *words) == 0
    folder = tmp_path / "run" / "model"
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= {
        p.name for p in folder.iterdir()
    }
    assert not (folder / "model.safetensors").exists()
    assert (base / "model.safetensors").read_bytes() == before
    tokenizer = load_tokenizer(folder)
    assert tokenizer(DIFF_TOKEN)["input_ids"] == [DIFF]
    model = load_model(folder, device="cpu")
    ids = torch.tensor([tokenizer("Add 1.\n<|diff|>")["input_ids"]])
    with torch.no_grad(), model.disable_adapter():
        plain = model(ids).logits
    with torch.no_grad():
        assert not torch.equal(model(ids).logits, plain)


def test_whole_programs_are_learned_once_each_from_edit_records(checkpoint, tmp_path):
    data = write_rows(tmp_path / "edits.jsonl", paths_of(4, samples=3))
    words = ["--mode", "program", "--passes", "2", "--train.batch-size", "4", "--train.max-length", "120"]
    assert train(data, "--model", checkpoint("llama"), "--out", tmp_path / "run", *words) == 0
    figures = json.loads((tmp_path / "run" / "report.json").read_text())["figures"]
    assert (figures["examples"], figures["programs"], figures["steps"]) == (4, 4, 2)
    tokenizer = load_tokenizer(tmp_path / "run" / "model")
    assert len(tokenizer) == 300  # whole programs need no diff token
    counted = sum(len(tokenizer(row["source_response"])["input_ids"]) + 1 for row in paths_of(4))
    assert figures["target tokens"] == counted


def test_programs_of_two_sources_that_share_numbers_stay_apart(checkpoint, tmp_path):
    rows = [row | {"source_file": name} for name in ("a.jsonl", "b.jsonl") for row in paths_of(2)]
    data = write_rows(tmp_path / "edits.jsonl", rows)
    words = ["--mode", "program", "--train.max-steps", "1", "--train.max-length", "120"]
    assert train(data, "--model", checkpoint("llama"), "--out", tmp_path / "run", *words) == 0
    assert json.loads((tmp_path / "run" / "report.json").read_text())["figures"]["programs"] == 4


@pytest.mark.parametrize(
    ("row", "mode", "says"),
    [
        ({"response": "x = 1"}, "editseq", 'line 1: field "edit_path" is missing'),
        ({"instruction": "Do."}, "program", 'neither "source_response" nor "response" holds a program'),
        ({"instruction": None, "response": "x = 1"}, "program", '"instruction" must be a string; got None'),
    ],
)
def test_records_that_cannot_be_learned_from(row, mode, says, checkpoint, tmp_path, capsys):
    data = write_rows(tmp_path / "rows.jsonl", [row])
    assert train(data, "--model", checkpoint("llama"), "--out", tmp_path / "run", "--mode", mode) == 2
    assert says in capsys.readouterr().err


def test_the_python_interface_needs_no_settings(checkpoint, tmp_path):
    from fixtures_training import SmallRun
    from gnomon.methods.lintseq import train_edit_lm

    model, tokenizer = load_model(checkpoint("gpt2"), device="cpu"), load_tokenizer(checkpoint("gpt2"))
    cfg = TrainConfig(lr=1e-2, batch_size=2, max_length=120, reduction="sum")
    pairs = (
        edit_pair(row["source_instruction"], row["edit_path"], row["index"]) for row in paths_of(4, samples=2)
    )
    trained, history, made = train_edit_lm(model, tokenizer, pairs, run=SmallRun(tmp_path), cfg=cfg, passes=2)
    assert trained is model
    assert len(history.curve("loss")) == 4  # 8 sequences of 4 programs, each program twice
    assert (made.n_groups, len(made.rows)) == (4, 8)
    assert tokenizer(DIFF_TOKEN)["input_ids"] == [DIFF]
