"""The second stage: its loss by hand, its negatives, its folder, and long pairs."""

from dataclasses import replace

import pytest
import torch

from fixtures_interleaved import new_handle, small_documents, small_queries
from fixtures_training import SmallRun
from gnomon.core.rng import Rng
from gnomon.core.train import TrainConfig
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.interleaved_retrieval import (
    Document,
    Form,
    Negatives,
    Pair,
    Query,
    Retrieving,
    Section,
    SectionReranker,
)
from gnomon.methods.interleaved_retrieval.reranking.training import SectionLoss, train_reranker


def new_reranker(how=None):
    return SectionReranker.new(new_handle(), how, rng=Rng(0))


def judged(n=3):
    return [(Pair(q, i, 1), list(range(n))) for i, q in enumerate(small_queries(n))]


def section_loss(reranker, **negatives):
    return SectionLoss(reranker, small_documents(3), judged(), Negatives(**negatives), rng=Rng(0))


@pytest.mark.parametrize(("kinds", "own"), [("both", 2), ("in-document", 2), ("cross-document", 0)])
def test_negatives_come_from_where_they_should(kinds, own):
    loss = section_loss(new_reranker(), kinds=kinds)
    for step in range(5):
        evidence, *others = loss.group(1, step)
        assert evidence == (1, 1) and len(others) == 4 and (1, 1) not in others
        assert sum(document == 1 for document, _ in others) == own
    assert len({tuple(loss.group(1, step)) for step in range(5)}) > 1  # drawn anew


def test_where_one_kind_lacks_the_other_fills_up():
    documents = [Document("a", "", small_documents(1)[0].sections), small_documents(2)[1]]
    alone = SectionLoss(
        new_reranker(), documents, [(Pair(Query("q", "x"), 0, 0), [])], Negatives(), rng=Rng(0)
    )
    group = alone.group(0, 0)
    assert {d for d, _ in group} == {0} and len(group) == 5
    single = Document("s", "", (small_documents(1)[0].sections[0],))
    lonely = SectionLoss(
        new_reranker(), [single], [(Pair(Query("q", "x"), 0, 0), [])], Negatives(), rng=Rng(0)
    )
    with pytest.raises(BadInput, match='no section to hold against that of query "q"'):
        lonely.group(0, 0)


@pytest.mark.parametrize("target", ["section", "document", "contrastive"])
def test_the_loss_by_hand(target):
    reranker = new_reranker()
    loss = section_loss(reranker, target=target, count=3)
    micro = {"pairs": torch.tensor([0, 2, -1]), "step": torch.tensor(1)}
    with torch.no_grad():
        value = float(loss(reranker.module, micro))
    expected = 0.0
    documents = small_documents(3)
    for row in (0, 2):  # the third counts for nothing
        group = loss.group(row, 1)
        logits = torch.tensor(reranker.score(small_queries(3)[row], [(documents[d], i) for d, i in group]))
        if target == "contrastive":
            expected -= float(logits[0] - logits.logsumexp(0))
            continue
        labels = [k == 0 or (target == "document" and d == row) for k, (d, _) in enumerate(group)]
        for logit, label in zip(logits.tolist(), labels, strict=True):
            p = 1 / (1 + 2.718281828459045**-logit)
            expected -= float(torch.log(torch.tensor(p if label else 1 - p)))
    assert value == pytest.approx(expected, rel=1e-3)


def test_training_lowers_the_loss_and_the_folder_gives_the_scores_back(tmp_path):
    reranker = new_reranker()
    cfg = TrainConfig(lr=3e-3, batch_size=3, max_steps=12, epochs=100, checkpoint_every=0, micro_batch_size=2)
    pairs, top = zip(*judged(), strict=True)
    history = train_reranker(reranker, small_documents(3), pairs, top, cfg, run=SmallRun(tmp_path / "run"))
    losses = history.curve("loss")
    assert sum(losses[-3:]) < sum(losses[:3])
    sections = [(d, i) for d in small_documents(2) for i in range(3)]
    scores = reranker.score(Query("q", "a dog"), sections)
    again = SectionReranker.from_pretrained(reranker.save_pretrained(tmp_path / "saved"))
    assert again.score(Query("q", "a dog"), sections) == pytest.approx(scores, abs=1e-5)
    single = [reranker.score(Query("q", "a dog"), [section])[0] for section in sections]
    assert single == pytest.approx(scores, abs=1e-4)  # whatever stands beside it
    hits = again.rerank(Query("q", "a dog"), small_documents(2), k=4)
    assert [h.score for h in hits] == sorted(scores, reverse=True)[:4] or hits[0].score == pytest.approx(
        max(scores), abs=1e-5
    )
    with pytest.raises(BadInput, match="is no reranker"):
        SectionReranker.from_pretrained(tmp_path / "run")
    with pytest.raises(BadInput, match="No judgement names a section"):
        train_reranker(
            reranker, small_documents(1), [Pair(Query("q", "x"), 0)], [[]], cfg, run=SmallRun(tmp_path)
        )


def test_alpha_mixes_the_score_of_the_document():
    reranker, documents = new_reranker(), small_documents(2)
    query = Query("q", "a dog")
    plain = {h.id: h.score for h in reranker.rerank(query, documents)}
    mixed = reranker.rerank(query, documents, scores={"doc 0": 0.9, "doc 1": 0.1}, alpha=0.5)
    for hit in mixed:
        own = 0.9 if hit.id.startswith("doc%200") else 0.1
        assert hit.score == pytest.approx(
            0.5 * own + 0.5 * float(torch.tensor(plain[hit.id]).sigmoid()), abs=1e-5
        )
    for alpha in (-1, 2, 0.5):
        with pytest.raises(BadConfig, match="alpha must be"):
            reranker.rerank(query, documents, alpha=alpha)
    assert [h.id for h in reranker.rerank(query, documents, only={"doc 1": [2]})] == ["doc%201#2"]


def test_a_query_is_read_once_for_the_sections_of_a_batch():
    """And the logits are those of each pair read by itself; pairs with images are read whole."""
    reranker, documents = new_reranker(), small_documents(3)
    query = Query("q", "a dog and a cat sat on the mat by the red door, and what came next")
    sections = [(d, i) for d in documents for i in range(len(d.sections))]
    sizes = []
    hook = reranker.handle.model.get_input_embeddings().register_forward_pre_hook(
        lambda _, args: sizes.append(tuple(args[0].shape))
    )
    plain = [section for section in sections if not _shows(*section)]
    reranker.score(query, plain[:2])  # the model is asked once whether it goes on from a shared beginning
    sizes.clear()
    reranker.score(query, plain)
    read = sum(rows * width for rows, width in sizes)
    hook.remove()
    assert read < sum(len(reranker.units.of_pair(query, *section).ids) for section in plain)
    together = reranker.score(query, sections)
    alone = [reranker.score(query, [section])[0] for section in sections]
    assert together == pytest.approx(alone, abs=1e-4)
    assert len({round(score, 4) for score in alone}) > 3


def _shows(document, number):
    return any(block.type == "image" for block in document.sections[number].blocks)


def test_a_long_pair_loses_blocks_from_its_end_and_says_so():
    reranker = new_reranker(Retrieving(max_length=45, form=Form(prefix="none")))
    document = small_documents(1)[0]
    section = Section("", (*document.sections[1].blocks, *document.sections[0].blocks * 3))
    seen = reranker.units.of_pair(Query("q", "a dog"), replace(document, sections=(section,)), 0)
    assert len(seen.ids) <= 45 and seen.ids[-1] == reranker.units.ends["passage"] and len(seen.layouts) == 1
    assert any("block 5" in name for name in reranker.units.troubles.dropped)
    with pytest.raises(BadInput, match='Query "q" leaves no room'):
        reranker.units.of_pair(Query("q", "a dog ran " * 40), document, 0)
    empty = Document("e", "", (Section("", ()),))
    assert reranker.score(Query("q", "x"), [(empty, 0)]) == [float("-inf")]


def test_adapters_and_head_learn_alone_and_are_merged_when_saved(tmp_path):
    whole = new_reranker()
    before = {name: tensor.clone() for name, tensor in whole.handle.model.state_dict().items()}
    seen = [whole.units.of_pair(query, small_documents(3)[i], 1) for i, query in enumerate(small_queries(3))]
    reranker = whole.with_adapters(2)
    # Fresh adapters change nothing yet.
    assert reranker.logits(seen) == pytest.approx(whole.logits(seen), abs=1e-5)
    head = reranker.module.score.weight.detach().clone()
    cfg = TrainConfig(lr=1e-2, batch_size=3, max_steps=4, epochs=100, checkpoint_every=0, schedule="constant")
    documents = small_documents(3)
    pairs, top = zip(*judged(), strict=True)
    history = train_reranker(reranker, documents, pairs, top, cfg, run=SmallRun(tmp_path / "run"))
    assert history.curve("loss")[-1] < history.curve("loss")[0]
    trained = [name for name, p in reranker.module.named_parameters() if p.requires_grad]
    assert {"score.weight", "score.bias"} < set(trained)
    assert all("lora_" in n or "trainable_tokens" in n or n.startswith("score.") for n in trained)
    assert not torch.equal(head, reranker.module.score.weight)
    base = {
        name.replace(".base_layer", ""): p
        for name, p in reranker.handle.model.base_model.model.state_dict().items()
    }
    same = [torch.equal(base[name], tensor) for name, tensor in before.items() if name in base]
    assert same and all(same)  # the model's own weights are as they were
    again = SectionReranker.from_pretrained(reranker.save_pretrained(tmp_path / "saved"))
    assert again.logits(seen) == pytest.approx(reranker.logits(seen), abs=1e-4)
