"""The miniature: planted judges, trained judges, and the paper's claims, each beside its noise floor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gnomon.core import env
from gnomon.core.claims import decide
from gnomon.core.miniature import write_summary
from gnomon.core.rng import Rng
from gnomon.core.run import Run
from gnomon.methods.calm import mini_page
from gnomon.methods.calm.config import CLAIMS, Mini
from gnomon.methods.calm.mini_models import SCALES, SHARES, Scale, train_judges
from gnomon.methods.calm.mini_studies import Qualitative, Trained, study_claims, study_trained
from gnomon.methods.calm.planted import TextStudy, through_text
from gnomon.methods.calm.validation import Validation, validate

TEXT = "planted judges through text"


@dataclass
class Findings:
    """What all seeds brought."""

    scores: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Arm -> metric -> a number per seed, as claims name them."""
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Part -> rows, each with its seed."""
    shown: dict[str, Any] = field(default_factory=dict)
    """Of the first seed, to be drawn."""

    def add(self, arm: str, metric: str, value: float) -> None:
        """One seed's score."""
        self.scores.setdefault(arm, {}).setdefault(metric, []).append(float(value))

    def note(self, part: str, seed: int, rows: list[dict[str, Any]]) -> None:
        """One seed's rows."""
        self.rows.setdefault(part, []).extend({"seed": seed, **row} for row in rows)


def mini(cfg: Mini, run: Run) -> None:
    """Run the parts for every seed, decide the claims and write the page."""
    scale = SCALES[cfg.scale]
    seeds = range(run.seed, run.seed + cfg.seeds)
    trained = 1 + (len(SHARES) - 1) * len(scale.cues)
    run.plan(
        seeds=list(seeds),
        planted_audits=scale.audits * cfg.seeds,
        simulated_calls=lambda: cfg.seeds * (60 * scale.through_text + 60 * scale.candidates),
        models=trained * cfg.seeds if "trained" in cfg.parts else 0,
        steps_per_model=scale.epochs * -(-scale.pairs // scale.batch_size),
    )
    env.check_scale(cfg.scale, scale.device)
    run.page.title = "SIMULATED: calm in miniature, judges whose biases are known"
    run.page.simulated = True
    found = Findings()
    for seed in seeds:
        for part in cfg.parts:
            _PARTS[part](scale, seed, run, found)
    verdicts = [
        decide(found.scores, claim)
        for claim in CLAIMS
        if cfg.scale != "smoke" and claim.comparison.metric in found.scores.get(claim.comparison.left, {})
    ]
    run.page.verdicts(verdicts)
    mini_page.write(run.page, found.shown, found.rows)
    write_summary(
        run,
        cfg,
        scale,
        verdicts,
        {"SIMULATED": True, "scores": found.scores, "rows": found.rows},
        "--parts",
        *cfg.parts,
    )


def _planted(scale: Scale, seed: int, run: Run, found: Findings) -> None:
    """Layer 1: many audits in arrays, and some through prompts and replies."""
    rng = Rng(seed).child("planted")
    many: Validation = validate(scale.audits, 439, rng.child("arrays"))
    found.add("planted judges", "smallest coverage", many.smallest_coverage)
    found.add("planted judges", "largest share of other probes flagged", max(many.flagged_other.values()))
    found.add("unbiased judge", "share of cells flagged", many.flagged_null)
    found.note("coverage", seed, many.rows())
    study: TextStudy = through_text(scale.through_text, rng.child("text"))
    found.add(TEXT, "largest error of a shift", study.largest_error)
    found.add(TEXT, "share not read", study.unread)
    found.add(TEXT, "self bonus", study.self_bonus[0])
    found.note("through text", seed, [*study.rows, study.over_http])
    run.log(
        seed=seed, part="planted", smallest_coverage=many.smallest_coverage, flagged_null=many.flagged_null,
        not_read=study.unread, self_bonus=study.self_bonus[0], largest_error=study.largest_error,
    )  # fmt: skip
    if seed == run.seed:
        found.shown |= {"validation": many, "text": study}


def _trained(scale: Scale, seed: int, run: Run, found: Findings) -> None:
    """Layer 2: tiny models that learned from labels of which some follow a cue."""
    rng = Rng(seed).child("trained")
    part = run.within(f"seed-{seed}/trained")
    folders = train_judges(scale, rng.child("models"), part, run.folder / f"seed-{seed}" / "judges")
    study: Trained = study_trained(folders, scale, rng.child("study"), scale.device)
    for share, arm in ((0.0, "no label"), (0.25, "a quarter of the labels"), (0.5, "half of the labels")):
        found.add(arm, "smallest shift by its own cue", study.smallest(share))
    found.add("trained judges", "share of cues with growing shift", study.growing())
    found.add("trained judges", "largest shift by another cue", study.others())
    found.add("no label", "accuracy", study.accuracy())
    found.note("trained", seed, study.rows)
    run.log(seed=seed, part="trained", accuracy=study.accuracy(), others=study.others())
    if seed == run.seed:
        found.shown["trained"] = study
        for (cue, share), folder in folders.items():
            if share:
                run.artifact(f"judge-{cue}-{share:g}", folder)


def _claims(scale: Scale, seed: int, run: Run, found: Findings) -> None:
    """Layer 3: what the paper says in words."""
    study: Qualitative = study_claims(scale, Rng(seed).child("claims"))
    for row in study.candidates:
        arm = f"slot bonus {row['slot bonus']:g}"
        found.add(arm, f"CR - RR, {row['candidates']} candidates", row["BIS"][0])
        found.add(arm, f"RR, {row['candidates']} candidates", row["RR"][0])
    for row in study.gaps:
        for name in ("RR", "BIS", "shift"):
            found.add(f"gap {row['gap']:g}", name, row[name][0])
    for row in study.order:
        for name in ("RR", "BIS"):
            found.add(row["judge"], name, row[name][0])
    for part, rows in (("candidates", study.candidates), ("gaps", study.gaps), ("order", study.order)):
        found.note(part, seed, rows)
    run.log(seed=seed, part="claims", quiet_rr=study.order[0]["RR"][0], noisy_rr=study.order[1]["RR"][0])
    if seed == run.seed:
        found.shown["claims"] = study


_PARTS = {"planted": _planted, "trained": _trained, "claims": _claims}
