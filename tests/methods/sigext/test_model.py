"""The extractor as people use it: any encoder, any batch, a fresh process, plain transformers; and what it refuses."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForTokenClassification

import fixtures_process
import fixtures_sigext
import gnomon
from gnomon.errors import BadConfig, BadInput, ModelMismatch
from gnomon.methods.sigext import Encoder, Reading, Settings, SigExtModel, select
from gnomon.methods.sigext.extractor import DocumentEncoder, longest_input
from gnomon.methods.sigext.phrases import ranking

DOCUMENTS = [row["document"] for row in fixtures_sigext.raw_rows(6, 5)]


@pytest.fixture(scope="module")
def extractor(trained):
    return SigExtModel.from_pretrained(trained[0] / "model", device="cpu")


def by_hand(model, extractor, document):
    """One document, one phrase at a time."""
    phrases = extractor.phrases(document)
    encoded = DocumentEncoder(extractor.tokenizer, "offsets", 128).encode(document, phrases)
    with torch.inference_mode():
        marks = model(input_ids=torch.tensor([encoded.input_ids])).logits.log_softmax(-1)[0, :, 1]
    return [float(marks[start:end].mean()) for start, end in encoded.spans]


def test_a_score_is_the_mean_log_probability_of_the_phrase_s_tokens(extractor):
    model = AutoModelForTokenClassification.from_pretrained(extractor.model.name_or_path).eval()
    for document, scored in zip(DOCUMENTS, extractor.score(DOCUMENTS), strict=True):
        assert [s.score for s in scored] == pytest.approx(by_hand(model, extractor, document), abs=1e-4)
        assert all(document[s.phrase.start : s.phrase.end] == s.phrase.text for s in scored)


def test_one_by_one_and_together_are_the_same(extractor):
    together = extractor.score(DOCUMENTS)
    for document, scored in zip(DOCUMENTS, together, strict=True):
        (alone,) = extractor.score([document])
        assert [s.phrase for s in alone] == [s.phrase for s in scored]
        assert [s.score for s in alone] == pytest.approx([s.score for s in scored], abs=1e-4)
    small = SigExtModel(extractor.model, extractor.tokenizer, extractor.settings, batch_tokens=60)
    for a, b in zip(small.score(DOCUMENTS), together, strict=True):
        assert [s.score for s in a] == pytest.approx([s.score for s in b], abs=1e-4)


def test_keyphrases_are_the_best_above_the_threshold(extractor):
    rows = fixtures_sigext.rows(6, 5)
    scores = extractor.score_rows(rows)
    for row, values, found in zip(rows, scores, extractor.keyphrases(DOCUMENTS, 3), strict=True):
        kept = select(row.phrases, values, 3, tau=extractor.settings.tau)
        assert found == [row.phrases[i] for i in kept]
        assert all(values[i] >= extractor.settings.tau for i in kept)
    with pytest.raises(BadConfig, match="k must be >= 1"):
        extractor.keyphrases(DOCUMENTS, 0)


def test_documents_without_candidates_have_no_phrases(extractor):
    assert extractor.score(["", "of the and"]) == [[], []]
    assert extractor.keyphrases(["", "?!"]) == [[], []]


@pytest.mark.slow
def test_a_fresh_process_and_plain_transformers_give_the_same(trained, extractor, tmp_path):
    code = (
        "import json, sys, torch\n"
        "from transformers import AutoModelForTokenClassification, AutoTokenizer\n"
        "from gnomon.methods.sigext import SigExtModel\n"
        "folder, text = sys.argv[1:]\n"
        "model = AutoModelForTokenClassification.from_pretrained(folder).eval()\n"
        "ids = AutoTokenizer.from_pretrained(folder)(text, return_tensors='pt')['input_ids']\n"
        "ids = torch.cat([torch.tensor([[0]]), ids, torch.tensor([[1]])], 1)\n"
        "with torch.inference_mode(): plain = model(input_ids=ids).logits.flatten().tolist()\n"
        "scored = SigExtModel.from_pretrained(folder, device='cpu').score([text])[0]\n"
        "print('@' + json.dumps([plain, [[s.phrase.text, s.score] for s in scored]]))\n"
    )
    done = fixtures_process.run(
        [sys.executable, "-c", code, trained[0] / "model", DOCUMENTS[0]],
        env={
            "PYTHONPATH": str(Path(gnomon.__file__).parents[1]),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        },
    )
    assert done.returncode == 0, done.stderr
    plain, scored = json.loads(done.stdout.rsplit("@", 1)[1])
    (here,) = extractor.score([DOCUMENTS[0]])
    assert [text for text, _ in scored] == [s.phrase.text for s in here]
    assert [value for _, value in scored] == pytest.approx([s.score for s in here], abs=1e-5)
    encoded = extractor.encoder.encode(DOCUMENTS[0], extractor.phrases(DOCUMENTS[0]))
    with torch.inference_mode():
        logits = extractor.model(input_ids=torch.tensor([encoded.input_ids])).logits
    assert plain == pytest.approx(logits.flatten().tolist(), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("family", fixtures_sigext.ENCODERS)
@pytest.mark.parametrize("mode", ["offsets", "pieces"])
def test_any_token_classifier_scores_and_trains(family, mode, tmp_path):
    from gnomon.core.train import TrainConfig

    folder = fixtures_sigext.save_encoder(tmp_path / family, family)
    made = SigExtModel.new(folder, Settings(tokenisation=mode), device="cpu")
    cfg = TrainConfig(lr=1e-3, batch_size=4, epochs=1, reduction="sum", grad_clip=1.0)
    made.fit(fixtures_sigext.rows(4), train=cfg)
    again = SigExtModel.from_pretrained(
        made.save_pretrained(tmp_path / "saved"), device="cpu", tokenisation=mode
    )
    for a, b in zip(made.score(DOCUMENTS), again.score(DOCUMENTS), strict=True):
        assert [s.score for s in a] == pytest.approx([s.score for s in b], abs=1e-5)
        assert len(a) > 5


def test_long_documents_lose_phrases_unless_windows_slide(extractor, caplog):
    text = " ".join(DOCUMENTS)
    short = replace(extractor.settings, max_length=64)
    cut = SigExtModel(extractor.model, extractor.tokenizer, short)
    (scored,) = cut.score([text])
    missing = len(cut.phrases(text)) - len(scored)
    assert missing > 5 and f"{missing} phrases lie beyond the 64 tokens" in caplog.text
    sliding = SigExtModel(extractor.model, extractor.tokenizer, short, stride=20)
    (whole,) = sliding.score([text])
    assert len(whole) == len(cut.phrases(text))
    best = {}
    row = sliding._rows([text])[0]
    for window in sliding.encoder.windows(text, row.phrases):
        for i, value in enumerate(sliding._forward([window])[0]):
            if not math.isnan(value):
                best[i] = max(value, best.get(i, -math.inf))
    assert [s.score for s in whole] == pytest.approx([best[i] for i in range(len(row.phrases))], abs=1e-4)
    assert sliding.settings.max_length == 64
    assert (
        SigExtModel(extractor.model, extractor.tokenizer).settings.max_length == 127
    )  # its positions, less those before


def test_settings_survive_the_folder(tmp_path):
    made = SigExtModel.new(fixtures_sigext.save_encoder(tmp_path / "base"), device="cpu")
    made.settings = Settings(
        Reading("german", True, "paper"), "pieces", 100, -1.25, 60.0, 7, ("a.jsonl", "b.jsonl")
    )
    made.save_pretrained(tmp_path / "saved")
    assert SigExtModel.from_pretrained(tmp_path / "saved", device="cpu").settings == made.settings
    made.settings = replace(made.settings, tau=-math.inf)
    made.save_pretrained(tmp_path / "saved")
    assert SigExtModel.from_pretrained(tmp_path / "saved", device="cpu").settings.tau == -math.inf


def test_what_is_no_extractor_is_refused_in_one_line(base, trained, tmp_path):
    with pytest.raises(BadInput, match=r"has no sigext\.json"):
        SigExtModel.from_pretrained(base)
    with pytest.raises(BadConfig, match="trained with tokenisation offsets and scores worse with pieces"):
        SigExtModel.from_pretrained(trained[0] / "model", tokenisation="pieces")
    made = SigExtModel.from_pretrained(trained[0] / "model", device="cpu")
    folder = made.save_pretrained(tmp_path / "changed")
    told = json.loads((folder / "sigext.json").read_text())
    (folder / "sigext.json").write_text(json.dumps(told | {"stopwords": "gnomon-english-00000000"}))
    with pytest.raises(BadInput, match="trained with the stop words gnomon-english-00000000; here they are"):
        SigExtModel.from_pretrained(folder)
    (folder / "sigext.json").write_text("{")
    with pytest.raises(BadInput, match=r"sigext\.json cannot be read"):
        SigExtModel.from_pretrained(folder)
    with pytest.raises(ModelMismatch, match="has no token classifier"):
        SigExtModel.new(_seq2seq(tmp_path / "t5"))


def _seq2seq(folder):
    from gnomon.core.models import tiny_causal, train_bpe

    tiny_causal("opt", train_bpe(["a b c"], 270), folder)
    return folder


def test_a_head_of_other_classes_is_replaced_and_one_of_two_is_kept(base, tmp_path):
    one, other = (SigExtModel.new(base, device="cpu").model.classifier.weight for _ in range(2))
    assert torch.equal(one, other)
    kept = AutoModelForTokenClassification.from_pretrained(base).classifier.weight
    assert torch.equal(one, kept)
    wide = fixtures_sigext.save_encoder(tmp_path / "wide", "bert")
    model = AutoModelForTokenClassification.from_pretrained(wide, num_labels=9, ignore_mismatched_sizes=True)
    model.save_pretrained(wide)
    assert SigExtModel.new(wide, device="cpu").model.classifier.weight.shape[0] == 2
    with pytest.raises(ModelMismatch, match="this classifier has 9"):
        SigExtModel(model, fixtures_sigext.words())


def test_scoring_changes_neither_rows_nor_the_training_mode(extractor):
    rows = fixtures_sigext.rows(2)
    before = [repr(row) for row in rows]
    extractor.model.train()
    extractor.score_rows(rows)
    assert extractor.model.training
    extractor.model.eval()
    assert [repr(row) for row in rows] == before


def test_keybert_ranks_by_likeness_to_the_document(tmp_path):
    folder = tmp_path / "bert"
    from transformers import AutoModel

    fixtures_sigext.save_encoder(folder, "bert")
    encoder = Encoder(folder, device="cpu", batch_tokens=50)
    rows = fixtures_sigext.rows(2)
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), fixtures_sigext.words()

    def vector(text):
        with torch.inference_mode():
            states = model(torch.tensor([tokenizer(text)["input_ids"]])).last_hidden_state[0]
        return torch.nn.functional.normalize(states.mean(0), dim=0)

    for row, found in zip(rows, encoder.rank(rows), strict=True):
        whole = vector(row.document)
        likeness = [float(vector(p.text) @ whole) for p in row.phrases]
        assert found == [row.phrases[i] for i in ranking(likeness)]
    assert longest_input(model.config) == 130
