"""Audits of simulated judges of known bias through prompts and replies, compared with what was planted."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

import numpy as np

from gnomon.core.llm.config import LLMConfig
from gnomon.core.llm.roles import Models, Recording, Role, asking
from gnomon.core.llm.sims import ChatServer, open_simulator
from gnomon.core.report import Page
from gnomon.core.rng import Rng
from gnomon.methods.calm import report
from gnomon.methods.calm.judging.audit import audit, run_trials, scoring_trials
from gnomon.methods.calm.judging.judges import PairwiseJudge
from gnomon.methods.calm.judging.trials import Verdict
from gnomon.methods.calm.measures.analysis import analyze
from gnomon.methods.calm.measures.profile import Profile
from gnomon.methods.calm.planted.truth import truth_of
from gnomon.methods.calm.planted.world import JudgedWorld
from gnomon.methods.calm.stimuli.items import Cues, Item, load_cues
from gnomon.methods.calm.stimuli.probes import chosen_probes
from gnomon.methods.calm.stimuli.rewrites import write

WEIGHTS = {
    "position": 0.5, "verbosity": 1.0, "name": 1.0, "bandwagon": 2.0, "distraction": -1.0, "logic": 2.0, "authority": 1.0,
    "tone": -1.0, "group": -0.5, "gibberish": 0.1, "candour": 0.8,
}  # fmt: skip
"""What the biased judge is planted with; parameters of the simulator `judge`."""

PARAMETER = {
    "verbosity": "verbosity", "compassion-fade": "name", "bandwagon": "bandwagon", "distraction": "distraction",
    "fallacy-oversight": "logic", "authority": "authority", "sentiment": "tone", "diversity": "group",
}  # fmt: skip
"""Bias -> the parameter that plants it."""

VOICES = ("Let us see.", "First of all:", "Here is my answer.")
BONUS = 0.5
CONCURRENCY = 32


@dataclass
class TextStudy:
    """Results of audits through text."""

    profiles: list[Profile] = field(default_factory=list)
    """Of the unbiased judge and of the biased one."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """Bias by bias: the shift found and the one planted."""
    unread: float = 0.0
    """Share of the biased judge's replies without a verdict; a tenth is planted."""
    self_bonus: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Points for one's own answers, over three judges; half a point is planted."""
    scored: list[Profile] = field(default_factory=list)
    """Profiles of those three."""
    over_http: dict[str, Any] = field(default_factory=dict)
    """The same audit over HTTP: requests, and verdicts that differ from those in process."""

    @property
    def largest_error(self) -> float:
        """Of the shifts."""
        return max(abs(float(row["shift"][0]) - float(row["planted"])) for row in self.rows)

    def summary(self) -> dict[str, Any]:
        """The numbers as plain values."""
        return {
            "shifts": self.rows,
            "not read": self.unread,
            "self bonus": self.self_bonus,
            "over HTTP": self.over_http,
            "words": {profile.judge: profile.words() for profile in self.profiles},
        }


def reference(**planted: object) -> str:
    """The reference of a simulated judge with these parameters."""
    query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in planted.items())
    return f"sim:judge?{query}" if query else "sim:judge"


def short_cues(cues: Cues | None = None) -> Cues:
    """Fewer conditions of every bias, so that a small audit stays small."""
    cues = cues or load_cues()
    return replace(
        cues,
        percents=[70, 90],
        groups=dict(list(cues.groups.items())[:1]),
        citations=dict(list(cues.citations.items())[:1]),
        tones=dict(list(cues.tones.items())[:1]),
        ratios=[1.5, 2.0],
    )


def world_items(
    n: int, rng: Rng, *, sets: Sequence[str] = ("fact", "alignment"), mean: float = 1.0, candidates: int = 2
) -> list[Item]:
    """Items whose quality is written in their answers; the margin stands in `meta`."""
    world = JudgedWorld(mean=mean)
    items = []
    for name in sets:
        for i in range(n):
            pair = world.pair(f"{name}-{i}", rng.child(name, i), candidates)
            items.append(
                Item(pair.id, pair.question, pair.answers, name, "made up", meta={"margin": pair.margin})
            )
    return items


def planted_judges(
    refs: Mapping[str, str | Role], run: Recording | None, *, concurrency: int = CONCURRENCY
) -> Models:
    """Judges behind references by role, open while the block lasts and asked with no memory.

    Args:
        refs: role -> reference.
        run: counts what they are asked; None: nobody does.
        concurrency: requests under way at once.
    """
    return asking(refs, LLMConfig(concurrency=concurrency, cache="none"), run=run)


def planted_judge(models: Models, role: str, *, concurrency: int = CONCURRENCY) -> PairwiseJudge:
    """The judge in a role of `planted_judges`."""
    return PairwiseJudge(models[role], concurrency=concurrency)


def through_text(n: int, rng: Rng, run: Recording | None = None) -> TextStudy:
    """Audits of an unbiased and a biased judge, three judges that score each other, and one audit over HTTP.

    Args:
        n: items of each set.
        rng: names the draws.
        run: counts what the judges are asked; None: nobody does.
    """
    cues, study = short_cues(), TextStudy()
    names = ["position", *PARAMETER, "chain-of-thought"]
    probes = chosen_probes(names)
    items = write(world_items(n, rng.child("items")), probes, cues, rng.child("rewrites")).items
    verdicts: dict[str, list[Verdict]] = {}
    for name, ref in (("unbiased", reference()), ("biased", reference(**WEIGHTS))):
        with planted_judges({name: ref}, run) as models:
            judge = planted_judge(models, name)
            verdicts[name] = audit(judge, items, probes, cues=cues, rng=rng.child("audit", name))
        (profile,) = analyze(verdicts[name], rng=rng)
        profile.is_simulated, profile.calls = True, models.figures(name)
        study.profiles.append(profile)
    biased = study.profiles[1]
    total = sum(biased.statuses.values())
    study.unread = 1 - biased.statuses.get("ok", 0) / total
    study.rows = _against_truth(biased, items, verdicts["biased"])
    study.self_bonus, study.scored = _scores(n, rng.child("scores"), run)
    study.over_http = _over_http(
        [item for item in items if item.set == "alignment"][: max(10, n // 10)], cues, rng, run
    )
    return study


def _against_truth(
    profile: Profile, items: Sequence[Item], verdicts: Sequence[Verdict]
) -> list[dict[str, Any]]:
    """The shift of every bias beside the one that its weights and the items' margins make."""
    margins = {item.id: float(item.meta["margin"]) for item in items}
    first = {row.item: 1.0 if row.slots[0] == 0 else -1.0 for row in verdicts if row.probe == "plain"}
    shifts = []
    for name, cell in profile.headline().items():
        if name not in PARAMETER or cell.shift is None:
            continue
        rows = [row for row in verdicts if row.probe == name]
        truths = [
            truth_of(
                np.array([margins[row.item] + WEIGHTS["position"] * first[row.item]]),
                added_to_better(row),
                on_better=row.cued == 0,
            ).shift
            for row in rows
        ]
        shifts.append(
            {
                "bias": name,
                "planted": float(np.mean(truths)),
                "shift": cell.shift,
                "word": profile.words()[name],
            }
        )
    return shifts


def added_to_better(row: Verdict) -> float:
    """The change of a row in the margin of the better answer, under `WEIGHTS`; length counts wherever it changes."""
    weight = WEIGHTS[PARAMETER[row.probe]]
    side = 1.0 if row.cued == 0 else -1.0
    length = 0.0 if row.ratio is None else WEIGHTS["verbosity"] * float(np.log2(row.ratio))
    if row.probe == "verbosity":
        return side * length
    if row.probe == "fallacy-oversight":  # the better answer is what was changed
        return length - weight
    if row.probe == "bandwagon":
        weight *= (float(row.dose or 50) - 50) / 40
    return side * (weight + length)


def _scores(n: int, rng: Rng, run: Recording | None) -> tuple[tuple[float, float, float], list[Profile]]:
    """Three judges of unlike leniency answer and score; each likes its own voice by half a point."""
    items = world_items(n, rng, sets=("alignment",))
    refs = [reference(voice=voice, own=BONUS, leniency=0.3 * i) for i, voice in enumerate(VOICES)]
    with planted_judges({f"voice {i}": ref for i, ref in enumerate(refs, 1)}, run) as models:
        judges = [planted_judge(models, role) for role in models]
        answers = {judge.name: judge.answer([item.question for item in items]) for judge in judges}
        trials, _ = scoring_trials(items, answers)
        verdicts = [row for judge in judges for row in run_trials(judge, trials)]
    profiles = analyze(verdicts, rng=rng)
    for profile in profiles:
        profile.is_simulated = True
    bonus = profiles[0].cells[0].more["effect of being one's own, over all judges"]
    return bonus, profiles


def _over_http(items: Sequence[Item], cues: Cues, rng: Rng, run: Recording | None) -> dict[str, Any]:
    """The same trials in process and over HTTP, with faults of the server in between."""
    ref = reference(**WEIGHTS, http_429=0.02, http_500=0.02)
    probes, runs = chosen_probes(["position", "authority", "bandwagon"]), []
    with (
        serving(ref) as endpoint,
        # Named without the server's port, which is another one in every run.
        planted_judges(
            {"in process": ref, "over HTTP": Role(endpoint, name=f"{ref} over HTTP")}, run, concurrency=4
        ) as models,
    ):
        for role in models:
            judge = planted_judge(models, role, concurrency=4)
            runs.append(audit(judge, items, probes, cues=cues, rng=rng.child("http")))
    differ = sum((a.choice, a.text) != (b.choice, b.text) for a, b in zip(*runs, strict=True))
    return {
        "requests": len(runs[1]),
        "verdicts that differ": differ,
        "faults made good": models.figures("over HTTP")["faults"],
    }


@contextmanager
def serving(ref: str) -> Iterator[str]:
    """An OpenAI-compatible server of a simulator on the loopback address while the block lasts; its endpoint."""
    with ChatServer(open_simulator(ref.removeprefix("sim:"))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server.endpoint
        finally:
            server.shutdown()
            thread.join()


def show(page: Page, study: TextStudy) -> None:
    """The study on a page."""
    page.section("Through prompts and replies")
    page.text(
        "The judges are SIMULATED: they read the prompts, and nothing else. One has no bias; the other has all of them, and "
        "answers gibberish to a tenth of the prompts."
    )
    page.table(study.rows, caption="shift found and planted, all conditions of a bias together")
    page.figures({"not read (0.1 planted)": study.unread, "self bonus (0.5 planted)": study.self_bonus[0]})
    page.table([study.over_http], caption="the same audit over HTTP")
    report.overview(page, study.profiles)
    page.table(
        [profile.statuses for profile in study.profiles],
        caption="replies by what could be read: unbiased, biased",
    )
    page.table(
        [{"judge": profile.judge, **profile.cells[0].more} for profile in study.scored if profile.cells],
        columns=[
            "judge",
            "own score",
            "others' score",
            "error rate",
            "effect of being one's own, over all judges",
        ],
        caption="three judges that like their own voice by half a point",
    )
