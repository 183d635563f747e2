"""What a prompt must score, worked out from what it asks for: the truth that a search's numbers are checked against."""

from __future__ import annotations

from collections.abc import Mapping

from gnomon.methods.crispo.house.aspects import ASPECTS, LENGTH, ORDER, Style
from gnomon.methods.crispo.house.documents import Document
from gnomon.methods.crispo.house.summaries import choose, ordered, same_order


def expected_score(
    requests: Mapping[int, int], default: Style, target: Style, follow: float, document: Document
) -> float:
    """The mean of `style_score` over all a writer may do with one document.

    Args:
        requests: aspect -> level that the prompt asks for.
        default: the writer's own style.
        target: the house's style, which the document's reference has.
        follow: the chance that a request is followed, each by itself.
        document: the document; nothing hints at its salient facts.

    Every aspect but the order agrees with the chance that its level is the house's. Two orders may agree by chance in the facts
    that both texts tell, which depend on the length: the chance is summed over lengths and orders.
    """
    total = 0.0
    for aspect in range(len(ASPECTS)):
        if aspect == ORDER:
            total += _order(requests, default, target, follow, document)
        else:
            total += _chances(requests, default, follow, aspect).get(target[aspect], 0.0)
    return total / len(ASPECTS)


def _chances(requests: Mapping[int, int], default: Style, follow: float, aspect: int) -> dict[int, float]:
    """Level -> chance."""
    own, asked = default[aspect], requests.get(aspect)
    if asked is None or asked == own:
        return {own: 1.0}
    return {asked: follow, own: 1 - follow}


def _order(
    requests: Mapping[int, int], default: Style, target: Style, follow: float, document: Document
) -> float:
    wanted = ordered(choose(document.facts, target, document.salient), target[ORDER])
    names = [fact.thing for fact in wanted]
    total = 0.0
    for length, p in _chances(requests, default, follow, LENGTH).items():
        style = (length, *default[1:])
        told = choose(document.facts, style)
        for order, q in _chances(requests, default, follow, ORDER).items():
            total += p * q * same_order([fact.thing for fact in ordered(told, order)], names)
    return total
