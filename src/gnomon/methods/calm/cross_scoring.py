"""Self-enhancement: every judge answers the questions, and every judge scores every answer without being told whose it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gnomon.methods.calm.items import Item
from gnomon.methods.calm.planning import CHANGED_DRAW
from gnomon.methods.calm.score_cells import SELF
from gnomon.methods.calm.trials import Trial


def scoring_trials(
    items: Sequence[Item], answers: Mapping[str, Sequence[str | None]]
) -> tuple[list[Trial], dict[str, int]]:
    """The trials that every judge is given, and the items left out: two authors gave the same answer, or one gave none.

    The better answer of the item is shown as a reference. Nothing tells who wrote the answer that is scored.

    Args:
        items: what was asked.
        answers: author -> answer to each item, in the order of `items`.
    """
    trials, dropped = [], {"same answer": 0, "no answer": 0}
    for i, item in enumerate(items):
        given = {author: texts[i] for author, texts in answers.items()}
        if any(text is None for text in given.values()):
            dropped["no answer"] += 1
            continue
        if len({(text or "").strip() for text in given.values()}) < len(given):
            dropped["same answer"] += 1
            continue
        trials += [_trial(item, author, text or "") for author, text in given.items()]
    return trials, dropped


def _trial(item: Item, author: str, text: str) -> Trial:
    return Trial(
        item=item.id,
        set=item.set,
        probe=SELF,
        condition=author,
        draw=CHANGED_DRAW,
        slots=(0,),
        question=item.question,
        answers=(text,),
        kind="score",
        reference=item.answers[0],
    )
