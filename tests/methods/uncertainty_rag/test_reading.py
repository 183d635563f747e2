"""The information of pairs against the model called token by token, and against core's Gain."""

import numpy as np
import pytest
import torch

from gnomon.core.models import ModelHandle
from gnomon.core.retrieval import Gain
from gnomon.errors import BadConfig, BadInput, ModelMismatch
from gnomon.methods.uncertainty_rag import (
    Layout,
    LocalReader,
    Span,
    SpanUncertainty,
    read_pairs,
    score_information,
)
from gnomon.methods.uncertainty_rag.scoring.reading import check_room
from gnomon.methods.uncertainty_rag.scoring.trace import in_terminal

FIRSTS = ["The bread oven crust.", "ships sail", "The comet and the moon, the dust of a ring around the sun"]
SECONDS = ["dough rises in an oven", "a planet", "x", "harbour and mast in the storm, waves and rope"]


def nll(handle, head, ids):
    """-ln p of each of `ids` behind `head`, one token after another, in float64."""
    values = []
    for i, token in enumerate(ids):
        if not head and not i:
            continue
        with torch.no_grad():
            logits = handle.model(torch.tensor([[*head, *ids[:i]]])).logits[0, -1].double()
        values.append(-float(logits.log_softmax(-1)[token]))
    return np.array(values)


@pytest.mark.parametrize("start", ["bos", "eos", "none"])
def test_every_token_but_what_stands_around_is_predicted_and_the_second_s_first_from_the_first(lm, start):
    reader = LocalReader(lm, Layout(start=start, separator=" |"))
    first, second = reader.encode(FIRSTS[0]), reader.encode(SECONDS[0])
    head = {"bos": [lm.tokenizer.bos_token_id], "eos": [lm.tokenizer.eos_token_id], "none": []}[start]
    (information,) = reader.read([(first, second)])
    assert information.first == pytest.approx(nll(lm, head, first), abs=1e-5)
    behind = [*head, *first, *reader.encode(" |")]
    assert information.second == pytest.approx(nll(lm, behind, second), abs=1e-5)
    assert len(information.joint) == len(first) + len(second) - (start == "none")
    (alone,) = reader.alone([second])
    assert alone == pytest.approx(nll(lm, head, second), abs=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "gemma2"])
def test_a_first_chunk_read_once_gives_what_plain_passes_give(checkpoint, family):
    handle = ModelHandle.load(checkpoint(family), device="cpu")
    pairs = [(a, b) for a in FIRSTS for b in SECONDS]
    for layout in (Layout(), Layout(start="none", separator="")):
        plain = LocalReader(handle, layout, grouped=False)
        ids = [(plain.encode(a), plain.encode(b)) for a, b in pairs]
        wanted = plain.read(ids)
        for budget in (1, 60, 4096):
            for ours, theirs in zip(
                LocalReader(handle, layout, batch_tokens=budget).read(ids), wanted, strict=True
            ):
                assert ours.first == pytest.approx(theirs.first, abs=1e-4)
                assert ours.second == pytest.approx(theirs.second, abs=1e-4)


def test_batches_and_neighbours_change_no_uncertainty(lm):
    span, pairs = Span(window=4, sigma=1.0), [(a, b) for a in FIRSTS for b in SECONDS]
    wanted = SpanUncertainty(LocalReader(lm, batch_tokens=4096), span).score(pairs)
    for budget in (1, 50):
        again = SpanUncertainty(LocalReader(lm, batch_tokens=budget), span).score(pairs[::-1])
        assert again.U[::-1] == pytest.approx(wanted.U, abs=1e-5)
        assert again.gain[::-1] == pytest.approx(wanted.gain, abs=1e-5)


def test_a_gain_is_core_s_gain(lm):
    """Two ways to the same number, one of them a reranker's."""
    pairs = [(a, b) for a in FIRSTS for b in SECONDS[:2]]
    for start in ("bos", "none"):
        ours = SpanUncertainty(LocalReader(lm, Layout(start=start)), Span(sigma=1.0)).score(pairs)
        theirs = Gain(lm, start=start).gains([a for a, _ in pairs], [b for _, b in pairs])
        assert ours.gain == pytest.approx(theirs, abs=1e-5)
        assert ours.nll_all.shape == (6,) and len(set(ours.gain.round(6))) == 6


def test_tokens_at_the_seam_are_those_of_the_chunks(lm):
    """Strings put together would merge what stands at the seam into other tokens."""
    reader = LocalReader(lm, Layout(separator=""))
    tokenizer = lm.tokenizer
    whole = "The flour"
    cut = next(
        i
        for i in range(1, len(whole))
        if reader.encode(whole) != reader.encode(whole[:i]) + reader.encode(whole[i:])
    )
    first, second = reader.encode(whole[:cut]), reader.encode(whole[cut:])
    (information,) = reader.read([(first, second)])
    assert len(information.joint) == len(first) + len(second) != len(tokenizer(whole)["input_ids"])


def test_a_pair_that_does_not_fit_is_an_error_that_names_the_limit(lm):
    reader = LocalReader(lm)
    word = reader.encode("bread ")
    room = reader.max_tokens - 1 - len(reader.separator)
    fits = (word * room)[: room // 2]
    reader.read([(fits, (word * room)[: room - len(fits)])])
    with pytest.raises(
        BadInput,
        match=rf"Pair 0: It has {reader.max_tokens + 1} tokens and the model reads {reader.max_tokens}",
    ):
        reader.read([(fits, (word * room)[: room - len(fits) + 1])])
    with pytest.raises(BadInput, match="second chunk has no tokens"):
        reader.read([(fits, [])])
    check_room(reader, room // 2)
    with pytest.raises(
        BadConfig, match=rf"the model reads {reader.max_tokens}.* --cut.size to {room // 2} at most"
    ):
        check_room(reader, room)


def test_other_models_and_missing_tokens_are_refused(checkpoint, lm):
    with pytest.raises(ModelMismatch, match="causal"):
        LocalReader(ModelHandle.load(checkpoint("t5"), device="cpu"))
    import copy

    tokenizer = copy.deepcopy(lm.tokenizer)
    tokenizer.bos_token = None
    with pytest.raises(ModelMismatch, match="no bos token"):
        LocalReader(ModelHandle(lm.model, tokenizer))


def test_a_reader_s_name_changes_with_all_that_changes_its_numbers(lm):
    layouts = [
        Layout(),
        Layout(order="anchor"),
        Layout(start="eos"),
        Layout(start="none"),
        Layout(separator=" "),
    ]
    names = [LocalReader(lm, layout).identity for layout in layouts]
    assert len(set(names)) == 5 and LocalReader(lm, batch_tokens=7).identity == names[0]


def test_bfloat16_weights_lose_only_what_they_round(models, lm):
    """Log-probabilities are float32 whatever the weights: in bfloat16 they would be off by up to 1/256 of their size."""
    small = ModelHandle.load(models[0], device="cpu", dtype="bfloat16")
    ids = [(LocalReader(lm).encode(FIRSTS[2]), LocalReader(lm).encode(SECONDS[3]))]
    (ours,), (exact,) = LocalReader(small).read(ids), LocalReader(lm).read(ids)
    assert len(set((ours.second * 256).round(3) % 1)) > 1  # no grid of bfloat16
    assert np.abs(ours.joint - exact.joint).mean() < 0.1


def test_an_explained_pair_is_the_scored_pair(lm):
    scorer = SpanUncertainty(LocalReader(lm), Span(window=4))
    scorer.calibrate([(a, b) for a in FIRSTS for b in SECONDS])
    scores, traced = scorer.score([(FIRSTS[2], SECONDS[3])]), scorer.trace(FIRSTS[2], SECONDS[3])
    assert traced.scores["U"] == pytest.approx(scores.U[0]) == pytest.approx(traced.windows["U"])
    assert np.mean([g for g in traced.gains if g is not None]) == pytest.approx(scores.gain[0])
    assert "".join(text for text, _ in traced.first) == FIRSTS[2]
    assert np.mean([v for _, v in [*traced.first, *traced.second]]) == pytest.approx(scores.nll_all[0])
    assert sum(traced.windows["kept"]) == scores.kept[0]
    assert len(traced.covered_first()) == len(traced.first) and len(traced.covered_second()) == len(
        traced.second
    )
    plain = in_terminal(traced, colours=False)
    inside = sum(traced.covered_first())
    assert plain.splitlines()[0].count("[") == (1 if inside else 0) or "[" in plain
    colourful = in_terminal(traced, colours=True)
    assert "\x1b[48;5;" in colourful and FIRSTS[2].split()[0] in colourful.replace("\x1b", "")
    evil = scorer.trace("rain \x1b[31m falls", "bread")
    assert "\x1b[31m" not in in_terminal(evil, colours=False)


def test_windows_over_the_second_chunk_alone(lm):
    reader = LocalReader(lm)
    ids = [(reader.encode(FIRSTS[0]), reader.encode(SECONDS[3]))]
    informations, alone = read_pairs(reader, ids)
    span = Span(window=3, sigma=1.5, scope="second")
    scores = score_information(informations, alone, span)
    assert scores.n_windows[0] == len(ids[0][1]) - 2
    traced = SpanUncertainty(reader, span).trace(FIRSTS[0], SECONDS[3])
    assert not any(traced.covered_first()) and len(traced.covered) == len(traced.second)
