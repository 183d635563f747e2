"""What each verb shows on its page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gnomon.core.report import Page
from gnomon.core.retrieval import Answer
from gnomon.core.study import Results, means

if TYPE_CHECKING:
    from gnomon.methods.smart_slic.factors.topics import Found

Rows = Sequence[Mapping[str, Any]]
SHOWN = 12


def expanded(page: Page, hops: Rows, figures: Mapping[str, Any]) -> None:
    """Page of `expand`."""
    page.title = f"{figures['papers']:,} papers around {figures['core']:,}"
    page.figures(figures)
    page.table(
        hops,
        caption="linked: ids that the hop before points to, an upper bound; unknown: share of papers without known links",
    )


def pruned(page: Page, decisions: Rows, figures: Mapping[str, Any], warning: str) -> None:
    """Page of `prune`: the papers nearest to the threshold on both sides, and those that are farthest."""
    page.title = f"{figures['kept']:,} of {figures['papers']:,} papers kept"
    page.figures(figures)
    if warning:
        page.text(f"**{warning}**")
    for status, order, caption in (
        ("dropped", -1, "dropped, the nearest to the threshold first"),
        ("kept", 1, "kept, the nearest to the threshold first"),
    ):
        rows = sorted((d for d in decisions if d["status"] == status), key=lambda d: order * d["score"])
        page.table([{"title": d["title"], "reason": d["reason"]} for d in rows[:SHOWN]], caption=caption)
    page.text("Every decision, with its score, is in `decisions.jsonl`; nothing is deleted.")


def cleaned(page: Page, pairs: Sequence[tuple[str, str]], figures: Mapping[str, Any]) -> None:
    """Page of `clean`: raw and clean side by side."""
    page.title = f"{figures['papers']:,} papers cleaned"
    page.figures(figures)
    page.table([{"raw": raw[:300], "clean": text[:300]} for raw, text in pairs])


def topics(page: Page, result: Found, ids: Sequence[str], titles: Mapping[str, str]) -> None:
    """Page of `topics`: the stability curves, the topics with their papers."""
    top = [name for name in result.words if name not in result.parents]
    page.title = f"{len(top)} topics of {len(ids):,} papers"
    if result.warning:
        page.text(f"**{result.warning}**")
    for name, table in result.tables.items():
        curves = {
            "words (W)": [(row["k"], row["min sil W"]) for row in table],
            "papers (H)": [(row["k"], row["min sil H"]) for row in table],
            "error": [(row["k"], row["error"]) for row in table],
        }
        what = f"topic {name}" if name else "all papers"
        page.lines(
            curves,
            x_label="number of topics",
            y_label="smallest silhouette, error",
            caption=f"stability over {what}",
        )
        page.table(
            table,
            caption=f"the curve of {what}; the largest k whose smallest silhouettes of words and papers are stable is taken",
        )
    sizes = Counter(topic for _, topic, _ in result.places)
    rows = []
    for name, words in result.words.items():
        best = max((row for row in result.places if row[1] == name), key=lambda row: row[2], default=None)
        rows.append({
            "topic": name, "papers": sizes[name], "words": ", ".join(words),
            "nearest paper": "" if best is None else titles.get(ids[best[0]], ""),
        })  # fmt: skip
    page.table(rows, caption="every paper is in one topic of its level; none is left out")


def built(
    page: Page, types: Mapping[str, int], relations: Mapping[str, int], figures: Mapping[str, Any]
) -> None:
    """Page of `build`."""
    page.title = f"A graph of {sum(types.values()):,} nodes and {sum(relations.values()):,} edges"
    page.text(
        "**No language model was asked while indexing.** Every edge names the paper and the column that state it."
    )
    page.figures(figures)
    page.table([{"nodes": name, "number": number} for name, number in types.items()])
    page.table([{"edges": name, "number": number} for name, number in relations.items()])


def asked(page: Page, answers: Sequence[Answer]) -> None:
    """Page of `ask`."""
    page.title = f"{len(answers)} questions"
    for answer in answers[:40]:
        page.section(answer.question)
        page.table(
            [{"answer": text[:500], "cites": ", ".join(names[:10])} for text, names in answer.sentences]
        )
        counted = answer.trace.get("counted")
        if isinstance(counted, list):
            page.text(f"Counted: {', '.join(map(str, counted[:60]))}{' ...' if len(counted) > 60 else ''}")
        page.text(f"Route: {answer.trace.get('route')}.{' Not answered.' if answer.abstained else ''}")


def evaluated(page: Page, summary: Mapping[str, Any], kinds: Rows, rows: Rows) -> None:
    """Page of `eval`: shares, and ten answers of which up to five are wrong."""
    page.title = "How good are the answers?"
    page.figures(summary)
    page.table(kinds, caption="by kind of question")
    page.table(examples(rows), caption="ten answers, wrong ones among them")


def examples(rows: Rows) -> list[dict[str, Any]]:
    """Ten rows, up to half of them wrong."""
    wrong = [row for row in rows if not row["right"]][:5]
    shown = [*wrong, *[row for row in rows if row["right"]][: 10 - len(wrong)]]
    names = ("question", "gold", "answer", "right", "route")
    return [{name: str(row[name])[:200] for name in names} for row in shown]


def real(page: Page, results: Results) -> None:
    """Page of the real run."""
    page.text("**No language model was asked**, neither while indexing nor while answering.")
    for name, keys, caption in (
        (
            "pruning",
            ("field", "rule"),
            "core papers of one field among all; precision and recall over the field's other papers",
        ),
        ("topics", ("method",), "how many topics each way of looking finds"),
        ("curves", ("method", "k"), "the curves behind them"),
        ("graph", (), "questions that were counted on the table, by the rules alone"),
        ("finding", ("by",), "the paper of a sentence that was taken out of its abstract"),
    ):
        page.section(name)
        page.table(means(results.rows[name], *keys), caption=caption)
    for method in dict.fromkeys(row["method"] for row in results.rows["curves"]):
        rows = [row for row in means(results.rows["curves"], "method", "k") if row["method"] == method]
        page.lines(
            {"words (W)": [(r["k"], r["min sil W"]) for r in rows], "papers (H)": [(r["k"], r["min sil H"]) for r in rows]},
            x_label="number of topics", y_label="smallest silhouette", caption=f"stability with {method}",
        )  # fmt: skip
    page.section("Ten answers")
    page.table(results.rows["examples"][:10])


def mini(page: Page, results: Results) -> None:
    """Page of the miniature."""
    page.text(
        "Papers of six subjects among three foreign ones, each with facts of its own. Half of the questions are in words that "
        "the rules do not expect. No language model is asked anywhere, so the claim about one that plans is **not** tested here."
    )
    for name, key, caption in (
        ("pruning", "rule", "papers of the six subjects against foreign ones, behind two hops of expansion"),
        (
            "topics",
            "method",
            "how many topics, and whether papers lie together that belong together (adjusted Rand index)",
        ),
        ("systems", "system", "answers by system; exact match over answerable questions"),
    ):
        page.section(name)
        page.table(means(results.rows[name], key), caption=caption)
    page.section("Ten answers of the routed system")
    page.table(results.rows["examples"][:10])
