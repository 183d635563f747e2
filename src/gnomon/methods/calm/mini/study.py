"""The miniature: planted judges, trained judges, and the paper's claims, each beside its noise floor."""

from __future__ import annotations

from collections.abc import Mapping

from gnomon.core.run import PartOfRun, Run
from gnomon.core.study import Out, Part, Results, Study
from gnomon.methods.calm.config import CLAIMS, Mini
from gnomon.methods.calm.mini import report
from gnomon.methods.calm.mini.measures import study_claims, study_trained
from gnomon.methods.calm.mini.world import SCALES, SHARES, Scale, train_judges
from gnomon.methods.calm.planted.study import through_text
from gnomon.methods.calm.planted.validation import validate

TEXT = "planted judges through text"


def mini(cfg: Mini, run: Run) -> None:
    """Run the parts for every seed, decide the claims and write the page."""
    STUDY.run(cfg, run)


def _plan(cfg: Mini, scale: Scale) -> Mapping[str, object]:
    trained = 1 + (len(SHARES) - 1) * len(scale.cues)
    return {
        "planted_audits": scale.audits * cfg.seeds,
        "simulated_calls": lambda: cfg.seeds * (60 * scale.through_text + 60 * scale.candidates),
        "models": trained * cfg.seeds if "trained" in cfg.parts else 0,
        "steps_per_model": scale.epochs * -(-scale.pairs // scale.batch_size),
    }


def _planted(scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """Layer 1: many audits in arrays, and some through prompts and replies."""
    rng = part.rng.child("planted")
    many = validate(scale.audits, 439, rng.child("arrays"))
    out.score("planted judges", "smallest coverage", many.smallest_coverage)
    out.score("planted judges", "largest share of other probes flagged", max(many.flagged_other.values()))
    out.score("unbiased judge", "share of cells flagged", many.flagged_null)
    out.add("coverage", *many.rows())
    text = through_text(scale.through_text, rng.child("text"), part)
    out.score(TEXT, "largest error of a shift", text.largest_error)
    out.score(TEXT, "share not read", text.unread)
    out.score(TEXT, "self bonus", text.self_bonus[0])
    out.add("through text", *text.rows, text.over_http)
    out.log(
        part="planted", smallest_coverage=many.smallest_coverage, flagged_null=many.flagged_null,
        not_read=text.unread, self_bonus=text.self_bonus[0], largest_error=text.largest_error,
    )  # fmt: skip
    out.show("validation", many)
    out.show("text", text)


def _trained(scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """Layer 2: tiny models that learned from labels of which some follow a cue."""
    rng = part.rng.child("trained")
    folders = train_judges(scale, rng.child("models"), part.within("trained"), part.folder / "judges")
    trained = study_trained(folders, scale, rng.child("study"), scale.device)
    for share, arm in ((0.0, "no label"), (0.25, "a quarter of the labels"), (0.5, "half of the labels")):
        out.score(arm, "smallest shift by its own cue", trained.smallest(share))
    out.score("trained judges", "share of cues with growing shift", trained.growing())
    out.score("trained judges", "largest shift by another cue", trained.others())
    out.score("no label", "accuracy", trained.accuracy())
    out.add("trained", *trained.rows)
    out.log(part="trained", accuracy=trained.accuracy(), others=trained.others())
    out.show("trained", trained)
    for (cue, share), folder in folders.items():
        if share:
            out.artifact(f"judge-{cue}-{share:g}", folder)


def _claims(scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """Layer 3: what the paper says in words."""
    claims = study_claims(scale, part.rng.child("claims"), part)
    for row in claims.candidates:
        arm = f"slot bonus {row['slot bonus']:g}"
        out.score(arm, f"CR - RR, {row['candidates']} candidates", row["BIS"][0])
        out.score(arm, f"RR, {row['candidates']} candidates", row["RR"][0])
    for row in claims.gaps:
        for name in ("RR", "BIS", "shift"):
            out.score(f"gap {row['gap']:g}", name, row[name][0])
    for row in claims.order:
        for name in ("RR", "BIS"):
            out.score(row["judge"], name, row[name][0])
    out.add("candidates", *claims.candidates)
    out.add("gaps", *claims.gaps)
    out.add("order", *claims.order)
    out.log(part="claims", quiet_rr=claims.order[0]["RR"][0], noisy_rr=claims.order[1]["RR"][0])
    out.show("claims", claims)


def _summary(results: Results) -> Mapping[str, object]:
    return {"SIMULATED": True, "scores": results.scores(), "rows": results.rows}


STUDY = Study(
    title="SIMULATED: calm in miniature, judges whose biases are known",
    simulated=True,
    claims=CLAIMS,
    scales=SCALES,
    parts={"planted": Part(_planted), "trained": Part(_trained), "claims": Part(_claims)},
    plan=_plan,
    page=report.write,
    summary=_summary,
)
