"""Which mentions the image tokens support."""

import math

import numpy as np
import pytest

from fixtures_vl_lens import WORLD, pictures, seer
from gnomon.errors import BadInput
from gnomon.methods.vl_lens import Detection, Finding, Vocabulary, Writing, detect
from gnomon.methods.vl_lens.captions import describe, token_probabilities
from gnomon.methods.vl_lens.lens import confidences, score, truth_of
from gnomon.methods.vl_lens.lens.lens import lens
from gnomon.methods.vl_lens.mini import PROMPT

WORDS = Vocabulary.of([[name] for name in WORLD.classes])


def test_a_finding_per_mention_with_the_confidence_of_its_object():
    captions = ["dog and dog and kite", "nothing", "cup", "mouse"]
    found = detect(seer(), pictures(), captions, how=Detection(WORDS, 0.2), prompt=PROMPT)
    assert [[f.object for f in row] for row in found] == [["dog", "dog", "kite"], [], ["cup"], ["mouse"]]
    read = lens(seer(), pictures(), PROMPT, ["dog", "kite"])
    expected = np.asarray(read.confidence)[0]
    assert [f.confidence for f in found[0]] == pytest.approx([expected[0], expected[0], expected[1]])
    assert all(f.is_supported == (f.confidence >= 0.2) for row in found for f in row)
    tokens = token_probabilities(seer(), pictures(1), PROMPT, captions[:1])[0]
    assert [f.probability for f in found[0]] == pytest.approx([tokens[0][2], tokens[2][2], tokens[4][2]])
    assert [f.probability_mean for f in found[0]] == [f.probability for f in found[0]]  # words of one token


def test_without_captions_the_model_writes_them():
    written = describe(seer(), pictures(), PROMPT, Writing(beams=1, max_new_tokens=8))
    how = Detection(WORDS, writing=Writing(beams=1, max_new_tokens=8))
    by_itself = detect(seer(), pictures(), how=how, prompt=PROMPT)
    assert by_itself == detect(seer(), pictures(), written, how=how, prompt=PROMPT)


def test_objects_that_are_asked_for_need_no_caption():
    found = detect(seer(), pictures(2), objects=["dog", "cup", "dog"], prompt=PROMPT)
    assert [[f.word for f in row] for row in found] == [["dog", "cup"]] * 2
    assert all(f.probability is None and 0 <= f.confidence <= 1 for row in found for f in row)


def test_a_plain_model_with_its_processor():
    handle = seer()
    plain = detect(handle.model, pictures(1), objects=["dog"], processor=handle.processor, prompt=PROMPT)
    assert plain == detect(handle, pictures(1), objects=["dog"], prompt=PROMPT)


def test_no_names_cost_no_pass():
    assert confidences(seer(), ["no image at all"], PROMPT, []) == [{}]


def test_captions_must_be_one_per_image():
    with pytest.raises(BadInput, match="2 images need as many captions; got 1"):
        detect(seer(), pictures(2), ["cup"], how=Detection(WORDS), prompt=PROMPT)


def finding(confidence, probability):
    return Finding("x", "x", confidence, probability, probability, True)


def test_scores_by_hand():
    """Hallucinated: .1 and .4. By confidence they come first and third: AP (1 + 2/3) / 2, AUC 3 of 4 pairs."""
    findings = [finding(0.1, 0.9), finding(0.3, 0.1), finding(0.4, 0.8), finding(0.9, 0.2)]
    found = score(findings, [True, False, True, False])
    assert found["confidence"] == pytest.approx({"ap": 5 / 6, "auc": 0.75})
    assert found["probability"]["auc"] == 0
    assert found["probability"]["ap"] == pytest.approx((1 / 3 + 2 / 4) / 2)


def test_scores_of_one_kind_alone():
    found = score([finding(0.1, 0.2)], [False])
    assert math.isnan(found["confidence"]["auc"]) and math.isnan(found["confidence"]["ap"])
    assert math.isnan(score([], [])["confidence"]["ap"])


def test_truth():
    assert truth_of(
        [Finding("cat", "kitten", 0, 0, 0, True), Finding("dog", "dog", 0, 0, 0, True)], {"cat"}
    ) == [
        False,
        True,
    ]
