"""Erasing and choosing: metrics by hand, halves that share no image, and a choice within its bound."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures_vl_lens import WORLD, pictures, seer
from gnomon.core.rng import Rng
from gnomon.core.run import Run
from gnomon.errors import BadInput
from gnomon.methods.vl_lens import Detection, Rewritten, Setting, Vocabulary, Writing, mitigate, rewrite
from gnomon.methods.vl_lens.captions import describe
from gnomon.methods.vl_lens.erasure import (
    Half,
    Target,
    choose,
    halves,
    outcome,
    sweep_halves,
    targets,
    try_setting,
    writer,
)
from gnomon.methods.vl_lens.lens import confidences
from gnomon.methods.vl_lens.mini import PROMPT

WORDS = Vocabulary.of([[name] for name in WORLD.classes])
WRITING = Writing(beams=1, max_new_tokens=8)
HARD = Setting(0, 1, 8.0)


def test_what_changed_between_two_captions():
    change = Rewritten.of("a dog, a cup and a dog", "a cup and a kite", ["dog"], WORDS)
    assert (change.removed, change.kept, change.new) == (("dog",), ("cup",), ("kite",))


def test_mentions_of_both_kinds_once_per_caption():
    wrong, right = targets(["dog and cup and dog", "kite"], [["cup"], ["kite"]], WORDS)
    assert [(t.image, t.word) for t in wrong] == [(0, "dog")]
    assert [(t.image, t.word) for t in right] == [(0, "cup"), (1, "kite")]


def test_outcome_by_hand():
    """Of two erased words one vanished; of three other correct objects two stayed; one new wrong object in two captions."""
    there = frozenset({"cup", "kite"})
    some = [Target(0, "dog cup kite", there, "dog"), Target(1, "bird cup", there, "bird")]
    found = outcome(some, ["cup mouse", "bird cup"], WORDS)
    assert (found.removed, found.kept, found.new, found.count) == (0.5, 2 / 3, 0.5, 2)
    assert math.isnan(outcome([], [], WORDS).removed)


def test_a_right_object_that_appears_is_no_new_hallucination():
    target = Target(0, "dog", frozenset({"cup"}), "dog")
    assert outcome([target], ["cup"], WORDS).new == 0


ROW = st.builds(
    lambda removed, kept: {"removed_hallucinated": removed, "kept": kept},
    st.sampled_from([0.0, 0.2, 0.5, 1.0]),
    st.sampled_from([0.5, 0.9, 0.95, 1.0, None]),
)


@given(st.lists(ROW, min_size=1, max_size=6), st.sampled_from([0.0, 0.05, 0.2]))
def test_no_setting_within_the_bound_removes_more_than_the_chosen_one(rows, bound):
    chosen = choose(rows, bound)
    within = [row for row in rows if row["kept"] is None or row["kept"] >= 1 - bound - 1e-9]
    if within:
        assert chosen in within
        assert all(row["removed_hallucinated"] <= chosen["removed_hallucinated"] for row in within)
    else:
        assert chosen["kept"] == max(row["kept"] for row in rows)


def test_halves_share_no_image_and_are_drawn_the_same_again():
    captions, truth = ["dog and cup"] * 20, [["cup"]] * 20
    first, second = halves(captions, truth, WORDS, 4, Rng(0))
    assert {len(first.hallucinated), len(first.correct), len(second.hallucinated)} == {4}
    assert not {t.image for t in (*first.hallucinated, *first.correct)} & {
        t.image for t in (*second.hallucinated, *second.correct)
    }
    assert halves(captions, truth, WORDS, 4, Rng(0)) == (first, second)
    with pytest.raises(BadInput, match="Of 1 captions 1 mention an object that is not in the image: too few"):
        halves(["dog"], [[]], WORDS, 4, Rng(0))


def test_rewriting_erases_each_image_s_own_words():
    """The same as one image after another; an image without words keeps the caption it had."""
    plain = describe(seer(), pictures(), PROMPT, WRITING)
    words = [["kite"], [], ["spoon", "kite"], ["spoon"]]
    together = rewrite(seer(), pictures(), PROMPT, words, HARD, WRITING)
    alone = [
        rewrite(seer(), [p], PROMPT, [w], HARD, WRITING)[0] for p, w in zip(pictures(), words, strict=True)
    ]
    assert together == alone
    assert together[1] == plain[1] and together != plain
    assert describe(seer(), pictures(), PROMPT, WRITING) == plain  # nothing stays behind


def test_rewriting_with_beams_edits_all_beams_of_an_image():
    words = [["kite"], ["spoon"]]
    searched = rewrite(seer(), pictures(2), PROMPT, words, HARD, Writing(beams=3, max_new_tokens=4))
    plain = describe(seer(), pictures(2), PROMPT, Writing(beams=3, max_new_tokens=4))
    assert len(searched) == 2 and searched != plain


def test_mitigation_erases_what_has_too_little_confidence_and_nothing_else():
    before = describe(seer(), pictures(), PROMPT, WRITING)
    said = [list(dict.fromkeys(WORDS.objects(caption))) for caption in before]
    sure = confidences(seer(), pictures(), PROMPT, WORDS.names)
    middle = sorted(sure[i][name] for i, row in enumerate(said) for name in row)[2]
    found = mitigate(seer(), pictures(), HARD, Detection(WORDS, middle, WRITING), prompt=PROMPT)
    assert [change.caption for change in found] == before
    for i, change in enumerate(found):
        assert list(change.erased) == [name for name in said[i] if sure[i][name] < middle]
        if not change.erased:
            assert change.caption_edited == change.caption
    assert sum(bool(change.erased) for change in found) in (1, 2)
    assert all(
        not change.erased
        for change in mitigate(seer(), pictures(), HARD, Detection(WORDS, 0, WRITING), prompt=PROMPT)
    )


def test_mitigation_repeats_until_no_word_is_below():
    once, often = (
        mitigate(seer(), pictures(), HARD, Detection(WORDS, 1.0, WRITING), prompt=PROMPT, iterations=n)
        for n in (1, 9)
    )
    for a, b in zip(once, often, strict=True):
        assert set(a.erased) <= set(b.erased)
        assert set(WORDS.objects(b.caption_edited)) <= set(
            b.erased
        )  # everything was below 1, so all was tried
    assert any(set(a.erased) < set(b.erased) for a, b in zip(once, often, strict=True))


def test_a_sweep_chooses_on_one_half_and_measures_on_the_other(tmp_path):
    """A writer that is known: it erases hallucinated words above strength 1, and everything above strength 2."""

    def written(target, alpha):
        if alpha > 2:
            return ""
        is_erased = alpha > 1 and target.is_hallucinated
        return " ".join(w for w in target.caption.split() if not (is_erased and w == target.word))

    def write(some, setting):
        return [written(target, setting.alpha) for target in some]

    half = Half(
        [Target(0, "dog cup", frozenset({"cup"}), "dog")], [Target(0, "dog cup", frozenset({"cup"}), "cup")]
    )
    settings = [Setting(2, 0, alpha) for alpha in (0.5, 1.5, 2.5)]
    run = Run(tmp_path / "run", method="vl-lens", verb="sweep", quiet=True)
    found = sweep_halves((half, half), settings, write, WORDS, 0.05, run=run)
    assert [row["removed_hallucinated"] for row in found["tried"]] == [0, 1, 1]
    assert [row["kept"] for row in found["tried"]] == [1, 1, 0]
    assert [row["removed_correct"] for row in found["tried"]] == [0, 0, 1]
    assert found["chosen"]["alpha"] == 1.5 and found["measured"] == found["chosen"] and found["within_bound"]
    again = sweep_halves((half, half), settings, lambda some, _: [""] * len(some), WORDS, 0.05, run=run)
    assert again["tried"] == found["tried"]  # what an interrupted run had finished is not tried again
    run.close()


def test_the_writer_of_a_model_erases_one_word_per_target():
    captions = describe(seer(), pictures(), PROMPT, WRITING)
    wrong, right = targets(captions, [[]] * 4, WORDS)
    assert not right
    write = writer(seer(), pictures(), PROMPT, WRITING)
    expected = rewrite(
        seer(), [pictures()[t.image] for t in wrong], PROMPT, [[t.word] for t in wrong], HARD, WRITING
    )
    assert write(wrong, HARD) == expected
    row = try_setting(Half(wrong, []), HARD, write, WORDS)
    assert row["removed_hallucinated"] == outcome(wrong, expected, WORDS).removed
    assert math.isnan(row["removed_correct"])
