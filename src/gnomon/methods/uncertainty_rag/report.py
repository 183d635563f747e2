"""What each verb shows on its report page and says on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gnomon.core.report import Page
from gnomon.core.retrieval.passages import Passage
from gnomon.methods.uncertainty_rag.answering.evaluation import Calibration, Judged
from gnomon.methods.uncertainty_rag.scoring.check import SelfCheck
from gnomon.methods.uncertainty_rag.scoring.scores import SCORES
from gnomon.methods.uncertainty_rag.scoring.table import Table
from gnomon.methods.uncertainty_rag.scoring.trace import PairTrace
from gnomon.methods.uncertainty_rag.training.retriever import Trained
from gnomon.methods.uncertainty_rag.training.training_set import Mined

SHOWN = 10
"""Rows to look at, at most."""

Rows = Sequence[Mapping[str, Any]]

MEANS = ("U", "nll_all", "nll_cond", "gain")

FINDING = (
    "Span uncertainty is the paper's score. **On real text a plain conditional likelihood of the second chunk, and the gain "
    "(its likelihood given the first, less that alone), tell related chunks apart better**; see the table."
)


def say_check(run: Any, check: SelfCheck) -> None:
    """The AUC of every score on the terminal, and what to change."""
    listed = ", ".join(f"{row['score']} {row['AUC']:.2f}" for row in check.rows)
    run.say(f"Self-check on {check.n_pairs} pairs of pieces of {check.n_documents} documents, AUC: {listed}.")
    if check.warning:
        run.say(f"Warning: {check.warning}")


def warn_of(run: Any, stored: Mapping[str, Any] | None, by: str) -> str:
    """Say again what the self-check of the table said, for the score that is chosen now; the warning, or nothing."""
    if stored is None:
        run.say(
            "The table was made without a self-check: nothing says whether this score works on this corpus."
        )
        return ""
    check = SelfCheck(**{**stored, "chosen": by})
    if by not in {row["score"] for row in check.rows}:
        return ""
    say_check(run, check)
    return check.warning


def scored(page: Page, table: Table, figures: Mapping[str, Any], hubs: Rows, check: SelfCheck | None) -> None:
    """Page of `score`: the self-check, distributions and hubness."""
    page.title = f"{len(table):,} pairs of chunks scored"
    page.figures({**figures, "sigma": table.about["settings"]["span"]["sigma"]})
    if check is not None:
        page.section("Self-check on your own documents")
        page.text(
            f"Two pieces of one document with a gap between them, against pieces of others: {check.n_pairs} pairs of pieces of up "
            f"to {check.piece} tokens of {check.n_documents} documents. {FINDING}"
        )
        page.table(
            [{**row, "what": SCORES[str(row["score"])]} for row in check.rows],
            best={"AUC": "max", "AUC within anchor": "max"},
        )
        page.text(
            f"**Warning.** {check.warning}" if check.warning else f"`{check.chosen}` is as good as any here."
        )
    same = np.asarray(table.columns["same_document"], bool)
    kept = np.asarray(table.columns["kept"]) / np.asarray(table.columns["n_windows"])
    page.section("The table")
    page.table(
        [
            {"pairs": name, "n": int(mask.sum()), **{c: float(np.asarray(table.columns[c])[mask].mean()) for c in MEANS}}
            for name, mask in (("one document", same), ("two documents", ~same)) if mask.any()
        ],
        caption="means in nats per token",
    )  # fmt: skip
    fell = float(np.asarray(table.columns["fell_back"]).mean())
    page.text(
        f"{kept.mean():.0%} of the windows are kept; {fell:.1%} of the pairs kept none and fell back on the most extreme one."
    )
    _hubness(page, hubs)


def _hubness(page: Page, hubs: Rows) -> None:
    page.section("Is one chunk everybody's positive?")
    page.text(
        "Joint scores hold the first chunk's own surprise, so that easy text looks certain beside every anchor. `--centre "
        "candidate` takes a candidate's mean over its anchors away."
    )
    page.table(
        hubs,
        caption="hubness of the best 10 of each anchor, or of --k-p",
        best={"top 1%": "min", "most used": "min"},
    )


def mined(page: Page, result: Mined, hubs: Rows, warning: str) -> None:
    """Page of `mine`."""
    page.title = f"{result.figures['anchors']:,} anchors with positives and hard negatives"
    page.figures(result.figures)
    if warning:
        page.text(f"**Warning.** {warning}")
    _hubness(page, hubs)
    page.section("Reading along")
    for row in result.rows[:SHOWN]:
        texts = {"anchor": row["anchor_text"], "positive": row["positive_texts"][0]}
        texts |= {"negative": row["negative_texts"][0]} if row["negatives"] else {}
        page.table([{"": name, "text": text[:300]} for name, text in texts.items()])


def trained(page: Page, result: Trained, cfg: Any, warning: str) -> None:
    """Page of `train`."""
    page.title = f"A retriever from {result.rows:,} anchors, without a label"
    seen = {f"negatives each row saw, {name}": round(value, 1) for name, value in result.negatives.items()}
    page.figures({"rows": result.rows, **seen})
    if warning:
        page.text(f"**Warning.** {warning}")
    page.text(
        f"Negatives of a row are the other passages of its batch of {cfg.train.batch_size} rows, without those that say what it or "
        "one of its positives says. `--train.micro-batch-size` embeds the batch in pieces and neither adds nor takes any."
    )
    lines = {name: list(enumerate(curve, 1)) for name, curve in result.curves.items()}
    page.lines(lines, x_label="step", y_label="loss per row", caption="contrastive loss")


def found(page: Page, queries: Mapping[str, str], rows: Rows) -> None:
    """Page of `search`: ranked passages with rank and score in every source."""
    page.title = f"Passages for {len(queries):,} question{'s' * (len(queries) != 1)}"
    for name, text in list(queries.items())[:SHOWN]:
        page.section(text)
        mine = [row for row in rows if row["query"] == name]
        page.table(
            [{"rank": r["rank"], "id": r["id"], **_parts(r["parts"]), "text": r["text"][:300]} for r in mine]
        )


def _parts(parts: Mapping[str, Any]) -> dict[str, str]:
    return {source: f"{rank}. ({score:.3g})" for source, (rank, score) in parts.items()}


def answered(page: Page, rows: Rows, passages: Mapping[str, Passage]) -> None:
    """Page of `ask`: answers, what they cite, how sure they are."""
    withheld = sum(row["abstained"] for row in rows)
    page.title = (
        f"{page.title if page.simulated else ''}{len(rows) - withheld} of {len(rows)} questions answered"
    )
    page.figures(
        {
            "questions": len(rows),
            "withheld": withheld,
            "passages shown, mean": float(np.mean([len(r["trace"]["shown"]) for r in rows])),
        }
    )
    if all(row["confidence"] is None for row in rows):
        page.text(
            "There is no labelled sample, so there is no percentage: signals are raw and mean nothing by themselves."
        )
    for row in rows[:SHOWN]:
        page.section(row["question"])
        answer = row["answer"] if not row["abstained"] else f"withheld: {row['trace']['why']}"
        page.table([{"answer": answer, "confidence": row["confidence"], **row["trace"]["signals"]}])
        cited = {name for _, names in row["sentences"] for name in names}
        page.table(
            [
                {"cited": "yes" if n in cited else "", "passage": n, "text": passages[n].text[:300]}
                for n in row["trace"]["shown"][:SHOWN]
            ],
            caption="as they were shown",
        )


def compared(page: Page, rows: Rows) -> None:
    """Page of `eval` for an index."""
    best = max(rows, key=lambda row: row["MRR@10"][0])
    page.title = f"Retrieval: {best['arm']} has the best MRR@10, {best['MRR@10'][0]:.3f}"
    page.table(
        rows,
        caption="means over queries with 95% bootstrap intervals; differences paired by query",
        best={"MRR@10": "max"},
    )


def calibrated(page: Page, result: Calibration, by: str) -> None:
    """Page of `eval` for a table."""
    page.title = f"Does a lower {by} uncertainty mean a more related pair? beta {result.beta:.2f}"
    page.figures(
        {
            "alpha": result.alpha,
            "beta": result.beta,
            "calibration error": result.error,
            "Spearman with the reference": result.spearman,
        }
    )
    lines = {
        "share of one document": [(b["U"], b["same"]) for b in result.bins],
        "fit": [(b["U"], b["p"]) for b in result.bins],
    }
    caption = "bins of equal counts, of the half that was not fitted on"
    page.lines(lines, x_label="uncertainty, nats", y_label="share of one document", caption=caption)
    page.table(result.bins)


def judged(page: Page, rows: Rows, result: Judged) -> None:
    """Page of `eval` for answers."""
    page.title = f"{int(result.right.sum())} of {len(rows)} answers are right"
    page.figures(
        {
            "answers": len(rows),
            "right": float(result.right.mean()),
            "answer within one chunk": result.coverage,
            "calibration error": result.fitted.error,
        }
    )
    page.table(result.scores.rows(), caption="each answer against the best of its references")
    curve = result.curve
    if curve is None:
        page.text(
            "The answers are too few, or all right or all wrong: no confidence is fitted, there is no percentage."
        )
        return
    page.section("Answering less, erring less")
    page.text(
        f"Always answering is wrong in {curve.always:.0%}. Area under the curve {curve.aurc:.3f}, at best {curve.aurc_best:.3f}."
    )
    of = curve.rows()
    risk = {"risk": [(r["coverage"], r["risk"]) for r in of]}
    page.lines(risk, x_label="share answered", y_label="share wrong", caption="risk and coverage")
    both = {"wrong given": "wrong_given", "right withheld": "right_withheld"}
    lines = {name: [(r["threshold"], r[key]) for r in of] for name, key in both.items()}
    page.lines(
        lines,
        x_label="confidence needed to answer",
        y_label="of all questions",
        caption="both kinds of error",
    )


def explained(page: Page, traced: PairTrace, name: str) -> None:
    """Page of `explain`: coloured tokens, windows kept, gain per token."""
    page.title = f"Token by token: {name}"
    page.figures(traced.scores)
    page.text(FINDING)
    both = [*traced.first, *traced.second]
    peak = max((value for _, value in both if value is not None), default=1.0)
    for label, pairs in (("first chunk", traced.first), ("second chunk, given the first", traced.second)):
        page.tokens(pairs, caption=label, label="information, nats", peak=peak)
    page.section("What the score looks at")
    covered = [*traced.covered_first(), *traced.covered_second()]
    kept = sum(traced.windows["kept"])
    page.text(
        f"{kept} of {len(traced.windows['kept'])} windows of {traced.windows['size']} tokens are kept; coloured is what they cover."
        + (
            " None passed the threshold: the most extreme one stands in."
            if traced.windows["fell_back"]
            else ""
        )
    )
    shown = [(text, value if keep else None) for (text, value), keep in zip(both, covered, strict=True)]
    page.tokens(shown, caption="covered by kept windows", label="information, nats", peak=peak)
    ratios = list(enumerate(traced.windows["ratio"]))
    lines = {"ratio": ratios, "threshold": [(x, traced.sigma) for x, _ in ratios]}
    caption = "signal-to-noise ratio of every window"
    page.lines(lines, x_label="window", y_label="mean / standard deviation", caption=caption)
    page.section("What the first chunk tells about the second")
    page.tokens(
        [(text, gain) for (text, _), gain in zip(traced.second, traced.gains, strict=True)],
        caption="gain per token",
        label="nats saved",
    )
