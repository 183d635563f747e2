"""The direction in miniature on a tuned seed: what lies in several modalities and sections is found by one merged vector."""

from dataclasses import replace

import pytest

from gnomon.core.rng import Rng
from gnomon.core.run import Run
from gnomon.methods.interleaved_retrieval.encoding.vectors import rank_documents
from gnomon.methods.interleaved_retrieval.evaluation.controls import swapped
from gnomon.methods.interleaved_retrieval.mini import SCALES, new_world
from gnomon.methods.interleaved_retrieval.mini.measures import PLAIN, Seed

pytestmark = [pytest.mark.replication, pytest.mark.slow]


def test_pictures_and_the_merge_matter(tmp_path):
    scale = replace(SCALES["mini"], steps=600, copies=1, test=100)
    run = Run(tmp_path / "run", method="interleaved-retrieval", verb="mini", seed=11, quiet=True)
    part = run.within(
        "seed-11",
    )
    part.rng = Rng(11)
    seed = Seed(scale, part.rng, part, new_world(scale, part.rng.child("world")))
    encoder, both = seed.encoder("interleaved"), seed.judged
    queries = encoder.encode_queries(both.queries)

    def success(k, documents=None, merge="mean", form=PLAIN):
        encoded = encoder.with_form(form).encode_sections(documents or both.documents)
        hits = rank_documents(queries, encoded, merge, k)
        return sum(q.id in [h.id for h in own] for q, own in zip(both.queries, hits, strict=True)) / 100

    run.close()
    assert success(1) >= 0.8
    assert success(1) - success(1, swapped(both.documents)) >= 0.3
    assert success(1) - success(1, form=PLAIN.without("images", "tables")) >= 0.4
    assert success(1) - success(1, merge="max_sim") >= 0.3
