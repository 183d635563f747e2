"""A corpus grown from core papers along references and citations, hop by hop, from any provider."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BudgetSpent
from gnomon.methods.smart_slic.corpus.papers import Paper

Link = Literal["references", "citations"]
COLUMNS: tuple[Link, ...] = ("references", "citations")


class Provider(Protocol):
    """Where papers come from."""

    def papers(self, ids: Sequence[str]) -> Mapping[str, Paper]:
        """Those of the ids that it has. `BudgetSpent` where it may not be asked further today."""


class LocalProvider:
    """A corpus that is here already."""

    def __init__(self, papers: Sequence[Paper]):
        self._papers = {paper.id: paper for paper in papers}

    def papers(self, ids: Sequence[str]) -> Mapping[str, Paper]:
        """Those of the ids that it has."""
        return {name: self._papers[name] for name in ids if name in self._papers}


@dataclass(frozen=True)
class Hop:
    """What a hop asked for and got."""

    hop: int
    """From 1."""
    linked: int
    """Ids that papers of the hop before point to and that were not in the corpus: an upper bound, known before asking."""
    fetched: int
    """New papers."""
    missing: int
    """Ids that the provider does not have."""
    not_chosen: int
    """Ids above `max_papers`."""
    unknown: float
    """Share of the papers of the hop before whose links are not known; it is not the share of those without links."""


@dataclass(frozen=True)
class Expanded:
    """A corpus with the hop of each paper."""

    papers: Mapping[str, Paper]
    """By id; core papers first."""
    hop_of: Mapping[str, int]
    """0: core."""
    hops: tuple[Hop, ...]
    stopped: str
    """Why it ended early, with all that was fetched kept; empty where it did not."""


def expand(
    core: Sequence[Paper],
    provider: Provider,
    *,
    hops: int = 1,
    by: Sequence[Link] = COLUMNS,
    max_papers: int | None = None,
    priority: Literal["frequency", "random"] = "frequency",
    rng: Rng | None = None,
    say: Callable[[str], None] | None = None,
) -> Expanded:
    """Grow a corpus.

    Args:
        core: papers of hop 0.
        provider: of all others.
        hops: how often links are followed.
        by: which links: `references` leads to what a paper cites, `citations` to what cites it.
        max_papers: new papers of a hop, at most; None: all.
        priority: which are kept then: those that most papers of the hop before point to (of equal ones the smaller id), or any.
        rng: for `random`.
        say: told the upper bound of each hop before it is asked for.

    Raises:
        BadConfig: hops or max_papers below 1, or a link that there is not.
    """
    if hops < 1 or (max_papers is not None and max_papers < 1) or not by or set(by) - set(COLUMNS):
        raise BadConfig(
            f"hops and max_papers must be >= 1 and by some of {', '.join(COLUMNS)}; got {hops}, {max_papers}, {list(by)}."
        )
    papers = {paper.id: paper for paper in core}
    hop_of = dict.fromkeys(papers, 0)
    steps: list[Hop] = []
    frontier = list(papers.values())
    for hop in range(1, hops + 1):
        links: Counter[str] = Counter()
        for paper in frontier:
            links.update({name for column in by for name in getattr(paper, column) or ()} - set(papers))
        unknown = sum(any(getattr(p, c) is None for c in by) for p in frontier) / max(1, len(frontier))
        if say is not None:
            say(
                f"Hop {hop}: at most {len(links):,} papers; links are unknown for {unknown:.0%} of {len(frontier):,}."
            )
        wanted = sorted(links, key=lambda name: (-links[name], name))
        if priority == "random":
            (rng or Rng(0)).child("hop", hop).python().shuffle(wanted)
        chosen = wanted if max_papers is None else wanted[:max_papers]
        try:
            fetched = provider.papers(chosen)
        except BudgetSpent as error:
            return Expanded(papers, hop_of, tuple(steps), f"Hop {hop}: {error}")
        frontier = [fetched[name] for name in chosen if name in fetched]
        papers |= {paper.id: paper for paper in frontier}
        hop_of |= dict.fromkeys((paper.id for paper in frontier), hop)
        steps.append(
            Hop(
                hop,
                len(links),
                len(frontier),
                len(chosen) - len(frontier),
                len(wanted) - len(chosen),
                unknown,
            )
        )
        if not frontier:
            break
    return Expanded(papers, hop_of, tuple(steps), "")
