"""What each verb shows on its report page."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnomon.core.report import Page
from gnomon.methods.elm.evaluation.measures import FORGET, Exam, summary, verdict, verdict_text
from gnomon.methods.elm.evaluation.seamlessness import naming
from gnomon.methods.elm.texts.passages import Fluent

if TYPE_CHECKING:
    from gnomon.core.train import History
    from gnomon.methods.elm.config import Baseline, Eval
    from gnomon.methods.elm.erasure.design import Erasure
    from gnomon.methods.elm.erasure.inspection import PersonaEffect

log = logging.getLogger(__name__)

Row = Mapping[str, Any]

NO_GUARANTEE = (
    "**Erasing is no guarantee of safety.** A probe, a suffix or a few steps of fine-tuning may bring back what questions no "
    "longer show; `gnomon elm attack` tries some of that."
)


def targets(page: Page, eta: float, rows: Sequence[Row], table: Sequence[Row]) -> None:
    """Page of `target`: tokens before and after reweighting, and the table over eta."""
    page.title = f"The target distribution at eta {eta:g}"
    page.figures({"tokens": len(rows), "mean support": sum(row["support"] for row in rows) / len(rows)})
    page.text(
        "After each token of the text: what the model takes to follow, and what it would be trained towards. The support is "
        "exp(entropy): **1 is one-hot**. Below 2, top-k and soft targets do nothing and the target may be an anti-answer, which "
        "gives the concept away as surely as the answer."
    )
    page.table(
        table,
        caption="choose eta: the text's own tokens should lose their place while the support stays above 2",
    )
    page.tokens(
        [(row["token"], row["entropy after"] - row["entropy before"]) for row in rows],
        caption="change of entropy after each token",
        label="nats",
    )
    page.table(rows, caption="token by token, up to the first 200")


def fluent(page: Page, texts: Sequence[Fluent], keywords: Sequence[str]) -> None:
    """Page of `fluency-data`: lengths, keywords and samples of the texts."""
    page.title = "Fluent texts without the concept"
    written = [text.continuation for text in texts]
    page.figures(
        {
            "texts": len(texts),
            "words a text": sum(len(passage.split()) for passage in written) / len(written),
            "name the concept": naming(written, keywords),
        }
    )
    page.table(
        [{"prompt": text.prompt, "continuation": text.continuation} for text in texts[:10]],
        caption="the first ten; training learns the continuation alone",
    )


@dataclass(frozen=True)
class Outcome:
    """What a training did to the concept."""

    before: Row | None
    """The model's answers to questions about the concept as it was; None: no questions were named."""
    after: Row | None
    """The same questions afterwards."""
    forget: tuple[float, float]
    """Perplexity of forget texts before and after."""

    @property
    def numbers(self) -> dict[str, float]:
        """For the metrics."""
        numbers = dict(zip(("forget perplexity before", "forget perplexity after"), self.forget, strict=True))
        for side, row in (("before", self.before), ("after", self.after)):
            if row is not None:
                numbers[f"accuracy {side}"] = row["accuracy"]
        return numbers

    @property
    def verdict(self) -> str:
        """One word for the title. Without questions it can only be said that nothing was erased, never that something was."""
        if self.before is not None and self.after is not None:
            return verdict(self.before, self.after)
        return "not erased" if self.forget[1] < FORGOTTEN * self.forget[0] else "not asked"


FORGOTTEN = 1.005
"""Times its perplexity that a text must have risen to at least where its concept was erased."""

TITLES = {
    "erased": "Erased",
    "partly erased": "Partly erased",
    "not erased": "Not erased",
    "not known before": "Not known before",
    "not asked": "Trained to erase",
}


def shown(method: str) -> str:
    """A baseline's name in results."""
    return "whp-simplified" if method == "whp" else method


def outcome(page: Page, name: str, outcome: Outcome) -> None:
    """Whether the concept is gone, as title and first sentence of the page of `train` or `baseline`."""
    page.title = f"{TITLES[outcome.verdict]}: {name}"
    before, after = outcome.forget
    if outcome.before is not None and outcome.after is not None:
        page.text(verdict_text(outcome.before, outcome.after))
        sides = {"before": outcome.before, "after": outcome.after}
        page.table(
            [{"model": side, **row} for side, row in sides.items()], caption="questions about the concept"
        )
    elif outcome.verdict == "not erased":
        page.text(
            f"The concept is **not erased**: forget texts have a perplexity of {before:.3g} before and {after:.3g} after. "
            "Train longer, with a larger --eta or more blocks."
        )
    else:
        page.text(
            f"**Whether the concept is erased was not asked.** Forget texts have a perplexity of {before:.3g} before and "
            f"{after:.3g} after; `--questions` here, or `gnomon elm eval`, tells what is still known."
        )
    if outcome.verdict == "not erased":
        log.warning("%s is not erased: see the report.", name)


def trained(
    page: Page,
    design: Erasure,
    history: History,
    folder: Path,
    part: str,
    picked: Sequence[Row],
    effect: PersonaEffect | None,
) -> None:
    """Page of `train`: the three losses, gradient lengths and the choice of eta."""
    if effect is not None:
        page.text(f"How the personas differ to the model on forget texts: {effect.numbers}.")
        if effect.is_slight:
            page.text("**Expert and novice hardly differ**: little may be erased.")
    rows = [row for row in _logged(folder) if row.get("part", folder.name) == part and "erase" in row]
    last = rows[-1] if rows else {}
    page.figures(
        {"steps": len(history.curve("loss")), "eta": design.eta}
        | {name: last[name] for name in ("erase", "retain", "fluency", "support") if name in last}
    )
    page.text(NO_GUARANTEE)
    if picked:
        page.table(picked, caption="eta picked on the first half of the questions: nearest to chance")
    curves = {
        name: [(row["step"], row[name]) for row in rows if name in row]
        for name in ("erase", "retain", "fluency")
    }
    page.lines(
        {name: points for name, points in curves.items() if points},
        x_label="step",
        y_label="nats per token",
        caption="each term before its weight; retain is a KL and begins at 0",
    )
    names = sorted({name for row in rows for name in row if name.startswith("gradient of ")})
    if names:
        page.lines(
            {name: [(row["step"], row[name]) for row in rows if name in row] for name in names},
            x_label="step",
            y_label="length",
            caption="length of each term's gradient, before its weight",
        )
    page.text(
        "`model` is an adapter in PEFT's format: `PeftModel.from_pretrained(base, folder)` needs nothing else. For WMDP and "
        "MMLU with the evaluation harness: `lm_eval --model hf --model_args pretrained=BASE,peft=FOLDER "
        "--tasks wmdp_bio,wmdp_cyber,mmlu`."
    )


def _logged(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def baseline(page: Page, cfg: Baseline, history: History) -> None:
    """Page of `baseline`: its loss over steps."""
    name = shown(cfg.method)
    curve = history.curve("loss")
    page.figures({"steps": len(curve), "first loss": curve[0], "last loss": curve[-1]})
    page.text(NO_GUARANTEE)
    if cfg.method == "whp":
        page.text("Simplified: labels come from logits alone, without a dictionary of anchor terms.")
    page.lines({name: list(enumerate(curve, 1))}, x_label="step", y_label="loss", caption="training loss")


def evaluated(page: Page, cfg: Eval, report: Row, exam: Exam) -> None:
    """Page of `eval`: innocence, seamlessness and specificity, before and after."""
    page.title = "Innocence, seamlessness, specificity"
    rows = summary(report)
    page.figures(
        {
            f"{row['measure']}, {side}": value[0] if isinstance(value := row[side], tuple) else value
            for row in rows
            if row["measure"] in ("accuracy, forget", "R-PPL", "accuracy, retain")
            for side in ("before", "after")
        }
    )
    page.text(
        "Innocence: accuracy should be **at** chance; far below it shows knowledge too. Seamlessness: R-PPL is the perplexity "
        "of what the model writes, under an independent model. Specificity: everything else should not have moved."
    )
    sides = [report[side]["innocence"].get(FORGET) for side in ("before", "after")]
    if all(sides):
        page.text(verdict_text(*sides))
    page.table(rows, caption="before and after; accuracies with their 95 % Wilson intervals")
    if cfg.prompts and cfg.judge is None:
        page.text("No judge was named, so there is no R-PPL: `--judge` takes an independent model.")
    if "layers" in report["before"]:
        leak(page, {side: report[side]["layers"] for side in ("before", "after")}, report["probe chance"])
    answers = report["after"].get("seamlessness", {}).get("answers", [])
    if answers:
        page.table(
            [
                {
                    "prompt": prompt,
                    "before": report["before"]["seamlessness"]["answers"][i],
                    "after": answers[i],
                }
                for i, prompt in enumerate(exam.prompts[:8])
            ],
            caption="what both write for the first prompts",
        )
    page.text(NO_GUARANTEE)


def leak(page: Page, layers: Mapping[str, Sequence[float]], chance: float) -> None:
    """The leakage picture: what a probe still finds, layer by layer, one row per model."""
    depth = len(next(iter(layers.values())))
    page.heatmap(
        list(layers.values()),
        x=["embed", *map(str, range(depth - 1))],
        y=list(layers),
        low=chance,
        high=1.0,
        caption=f"accuracy of a linear probe on the last token's state after each block; chance is {chance:.2f}",
    )


def attacked(page: Page, attacks: Mapping[str, Row]) -> None:
    """Page of `attack`: what suffixes and relearning bring back, before and after."""
    page.title = "Attacks on an erased model"
    page.figures({f"accuracy, {name}": row["plain"]["accuracy"] for name, row in attacks.items()})
    searches = [
        {
            "model": name,
            "right option reached": row["suffix"]["right"],
            "without a search": row["suffix"]["right_from_start"],
            "mean steps": row["suffix"]["steps_right"],
            "wrong option reached": row["suffix"]["wrong"],
            "mean steps, wrong": row["suffix"]["steps_wrong"],
        }
        for name, row in attacks.items()
        if "suffix" in row
    ]
    if searches:
        page.table(searches, caption="suffix search by greedy coordinate gradient")
        page.text(
            "The search for a **wrong** option is the control: a model that can be pushed to any answer has not given its "
            "knowledge away by yielding the right one."
        )
    curves = {
        name: [(point["steps"], point["accuracy"]) for point in row["relearning"]]
        for name, row in attacks.items()
        if "relearning" in row
    }
    if curves:
        page.lines(
            curves,
            x_label="steps of fine-tuning on forget texts",
            y_label="accuracy",
            caption="relearning with fresh adapters",
        )
    page.text(NO_GUARANTEE)
