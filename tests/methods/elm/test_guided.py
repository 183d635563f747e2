"""Guided sampling: scores by hand, three streams against plain passes, batches, a job that is taken up again."""

import math

import pytest
import torch

from fixtures_elm import small_model, small_texts, small_tokenizer
from gnomon.core import records
from gnomon.core.rng import Rng
from gnomon.errors import BadInput
from gnomon.methods.elm import write_fluent
from gnomon.methods.elm.erasure import Draft, Guidance, draft, guided_scores, make_fluent
from gnomon.methods.elm.mini import personas
from gnomon.methods.elm.texts import prefix_ids, text_ids


@pytest.fixture(scope="module")
def small():
    tokenizer = small_tokenizer()
    return small_model(tokenizer), tokenizer


def drafts(n=5, length=6):
    texts, _ = small_texts()
    return [
        draft(texts[i], personas(), ("the cat .",), Rng(0).child(i), chars=(5, 25), tokens=(3, length))
        for i in range(n)
    ]


def test_scores_by_hand():
    """p (.5, .5), expert (.8, .2), novice (.4, .6), gamma 3: .5 (.4/.8)^3 = .0625 and .5 (.6/.2)^3 = 13.5."""
    rows = [torch.tensor([[math.log(a), math.log(b)]]) for a, b in ((0.5, 0.5), (0.8, 0.2), (0.4, 0.6))]
    assert guided_scores(*rows, 3.0).exp()[0].tolist() == pytest.approx([0.0625, 13.5])


def test_three_streams_in_lock_step_are_three_whole_passes(small):
    """At temperature near zero each token is the likeliest by plain passes over prompt and persona streams."""
    model, tokenizer = small
    made = drafts()
    for one, fluent in zip(made, write_fluent(model, tokenizer, made, 3.0, temperature=1e-4), strict=True):
        heads = [text_ids(tokenizer, one.prompt)]
        heads += [prefix_ids(tokenizer, getattr(one, side)) for side in ("expert", "novice")]
        written = []
        with torch.no_grad():
            for _ in range(one.length):
                last = [model(torch.tensor([[*head, *written]])).logits[:, -1] for head in heads]
                written.append(int(guided_scores(*last, 3.0).argmax()))
                if written[-1] == tokenizer.eos_token_id:
                    break
        assert fluent.prompt == one.prompt
        assert fluent.continuation.split() == tokenizer.decode(written, skip_special_tokens=True).split()


def test_how_many_are_written_together_changes_nothing(small):
    made = drafts(6)
    together = write_fluent(*small, made, 3.0)
    alone = [one for single in made for one in write_fluent(*small, [single], 3.0)]
    assert together == alone


def test_a_draft_cuts_the_text_and_changes_the_topic():
    one = draft("z" * 500, personas(), ("But the cat .",), Rng(0), chars=(50, 300), tokens=(100, 300))
    head = one.prompt.removesuffix(" But the cat .")
    assert 50 <= len(head) <= 300
    assert set(head) == {"z"}
    assert 100 <= one.length <= 300
    assert one == draft("z" * 500, personas(), ("But the cat .",), Rng(0), chars=(50, 300), tokens=(100, 300))


def test_positions_of_the_model_are_not_left(small):
    model, tokenizer = small
    long = Draft("the " * 150, "expert", "novice", 100, Rng(0))
    (found,) = write_fluent(model, tokenizer, [long], 3.0)
    assert len(found.continuation.split()) <= 10


def test_a_job_is_taken_up_where_it_stopped(small, tmp_path, monkeypatch):
    texts, _ = small_texts()
    options = {"count": 7, "generator": Rng(4)}
    guidance = Guidance(personas(), chars=(5, 25), tokens=(3, 5), batch_size=2)
    whole = make_fluent(*small, texts, guidance, folder=tmp_path / "whole", **options)
    # A killed job leaves finished parts: here the first and the third of four.
    parts = tmp_path / "cut" / "parts"
    rows = list(records.read_raw(whole))
    for first in (0, 4):
        records.write(parts / f"{first:08d}.jsonl", [row for _, row in rows[first : first + 2]])
    marks = {path.name: path.stat().st_mtime_ns for path in parts.iterdir()}
    cut = make_fluent(*small, texts, guidance, folder=tmp_path / "cut", **options)
    assert len(marks) == 2
    assert cut.read_text() == whole.read_text()
    assert len(rows) == 7
    assert not parts.exists()


def test_nothing_to_begin_with_is_told(small, tmp_path):
    with pytest.raises(BadInput, match="no forget text"):
        make_fluent(*small, [], Guidance(personas()), count=1, generator=Rng(0), folder=tmp_path)
