"""Miniature replications: a room declares a `Study`; this module runs it, decides its claims and writes its summary.

A study has parts (functions), scales (dataclasses of sizes) and claims. Each part runs once for every seed and puts its numbers
into an `Out`:

    def _toys(scale, seed, part, out):
        model = train(scale, part.within("toy"))
        out.score("toys", "accuracy", accuracy(model))
        out.add("toys", {"arm": "toys", "accuracy": accuracy(model)})
        out.show("toy", model)

    STUDY = Study(
        title="room in miniature: toys",
        claims=CLAIMS,
        scales=SCALES,
        parts={"toys": Part(_toys), "chains": Part(_chains)},
        plan=lambda cfg, scale: {"models": cfg.seeds},
        page=report.write,
        summary=lambda results: {"rows": results.rows["toys"]},
    )

    def mini(cfg, run):
        STUDY.run(cfg, run)

A claim names its part. A part that ran and left one of its claims without a finite number is an error, at every scale; claims of
parts that did not run are left out, and a line on stderr and on the page says so. Where settings change the study, a function of
the settings returns it.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from gnomon.core import env
from gnomon.core.claims import Claim, Verdict, decide
from gnomon.core.config import check
from gnomon.core.files import write_json
from gnomon.core.results import Out, Results, Scores, enter, floats, means, numbers_in
from gnomon.core.rng import Rng
from gnomon.errors import UserError, nearest

if TYPE_CHECKING:
    from gnomon.core.report import Page
    from gnomon.core.run import PartOfRun, Run

__all__ = ["Miniature", "Out", "Part", "Results", "Study", "_write_summary", "check_parts", "means"]

ScaleName = Literal["smoke", "mini", "gpu"]
SCALE_NAMES = ("smoke", "mini", "gpu")


@dataclass(frozen=True, kw_only=True)
class Miniature:
    """Settings of every miniature; a room's own come behind them."""

    scale: ScaleName = "mini"
    """smoke: does the machinery run; mini: the CPU replication; gpu: a larger one for a single GPU."""
    seeds: int = 3
    """How many seeds, counted up from --seed."""

    def __post_init__(self) -> None:
        check(self.seeds >= 1, "seeds", ">= 1", self.seeds)


def check_parts(parts: Sequence[str], names: Collection[str]) -> None:
    """Refuse parts of a miniature that it does not have, and none at all.

    Raises:
        BadConfig: the message names those there are.
    """
    check(bool(parts) and set(parts) <= set(names), "parts", f"some of {', '.join(names)}", parts)


@dataclass(frozen=True)
class Part:
    """A part of a study."""

    run: Callable[[Any, int, PartOfRun, Out], None]
    """Called with scale, seed, the seed's part of the run (folder `seed-N`, random numbers `Rng(seed)`) and an `Out`."""
    once: bool = False
    """True: runs for the first seed alone, in a folder of the part's name, because its units are not seeds."""
    scales: Collection[str] = SCALE_NAMES
    """Names of the scales at which it runs."""
    extra: bool = False
    """True: it runs whichever parts the settings name."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A miniature replication, declared.

    Raises:
        ValueError: a claim names no part where there are several, or one that the study does not have.
    """

    title: str
    """Of the page."""
    claims: Sequence[Claim]
    """What it tests."""
    scales: Mapping[str, Any]
    """Name of a scale -> its sizes, a dataclass with the attribute `device`."""
    parts: Mapping[str, Part]
    """Name -> part, in the order in which they run; the only part may be called \"\"."""
    plan: Callable[[Any, Any], Mapping[str, object]]
    """Settings and sizes -> what the run costs, by name; the seeds are there already."""
    page: Callable[[Page, Results], None]
    """Writes the page."""
    summary: Callable[[Results], Mapping[str, Any]]
    """The room's own keys of `summary.json`."""
    simulated: bool = False
    """Whether a simulated model had a part in it."""
    options: Sequence[str] = ()
    """The room's words of the command, behind `--parts`."""
    across: Callable[[Results], Mapping[str, Mapping[str, Sequence[Any]]]] | None = None
    """Scores that need all seeds: arm -> metric -> values. None: the parts score everything."""

    def __post_init__(self) -> None:
        for claim in self.claims:
            for name in claim.parts:
                if name not in self.parts and (name or len(self.parts) > 1):
                    raise ValueError(f'Claim "{claim.compare}": part "{name}". {nearest(name, self.parts)}')

    def run(self, cfg: Miniature, run: Run) -> None:
        """Run the parts for every seed, decide the claims, and write page and summary.

        Raises:
            UserError: a part ran and left one of its claims without a finite number.
        """
        scale = self.scales[cfg.scale]
        seeds = range(run.seed, run.seed + cfg.seeds)
        run.plan(seeds=list(seeds), **self.plan(cfg, scale))
        env.check_scale(cfg.scale, scale.device)
        run.page.title = self.title
        run.books.expects_faults = True
        run.page.simulated = run.page.simulated or self.simulated
        parts = self._chosen(cfg)
        claims = [claim for claim in self.claims if claim.is_about(parts)]
        results = Results(list(seeds), run.folder)
        for seed in seeds:
            for name, part in parts.items():
                if not part.once or seed == run.seed:
                    _run_part(name, part, scale, seed, run, results)
            if self.across is None:  # a metric that is misspelt costs one seed and not all of them
                self._check(claims, parts, results, range(run.seed, seed + 1), cfg.scale)
        if self.across is not None:
            for arm, metrics in self.across(results).items():
                for metric, values in metrics.items():
                    for unit, value in enumerate(values):
                        enter(results.by_part.setdefault(_ACROSS, {}), arm, metric, unit, floats(value))
            self._check(claims, parts, results, (), cfg.scale)
        # One seed of the smallest size says nothing about a claim.
        verdicts = (
            [] if cfg.scale == "smoke" else [decide(_of(claim, parts, results), claim) for claim in claims]
        )
        run.page.verdicts(verdicts)
        self._say_left_out(parts, run)
        self.page(run.page, results)
        _write_summary(run, cfg, scale, verdicts, dict(self.summary(results)), *_words(cfg), *self.options)

    def _chosen(self, cfg: Any) -> dict[str, Part]:
        """The parts that the settings name and that run at their scale."""
        names = getattr(cfg, "parts", "all")
        names = self.parts if names == "all" else [names] if isinstance(names, str) else names
        return {
            name: part
            for name, part in self.parts.items()
            if (name in names or part.extra) and cfg.scale in part.scales
        }

    def _check(
        self, claims: Sequence[Claim], parts: Mapping[str, Part], results: Results, seeds: Sequence[int], scale: str
    ) -> None:  # fmt: skip
        """Refuse to go on when a claim has no finite number."""
        lost = []
        for claim in claims:
            names = _parts_of(claim, parts)
            per_seed = () if any(parts[name].once for name in names) else seeds
            why = _missing(claim, _of(claim, parts, results), per_seed, results.undefined, scale)
            if why:
                which = (
                    f"part{'s' * (len(names) > 1)} {' and '.join(map(_quoted, names))}"
                    if any(names)
                    else "its part"
                )
                lost.append(f'Claim "{claim.compare}": {which} ran and left it without a number. {why}')
        if lost:
            raise UserError("\n".join(lost))

    def _say_left_out(self, parts: Mapping[str, Part], run: Run) -> None:
        left = [claim for claim in self.claims if not claim.is_about(parts)]
        if not left:
            return
        counts: dict[str, int] = {}
        for claim in left:
            names = [name for name in claim.parts if name not in parts]
            counts[" and ".join(names)] = counts.get(" and ".join(names), 0) + 1
        listed = ", ".join(f"{name} ({n} claim{'s' * (n > 1)})" for name, n in counts.items())
        sentence = f"Left out, since their parts were not run: {listed}."
        run.say(sentence)
        run.page.text(sentence)


_ACROSS = "\0across"
"""Key of the scores that need all seeds, which is no part's name."""


def _run_part(name: str, part: Part, scale: Any, seed: int, run: Run, results: Results) -> None:
    of_run = run.within(name if part.once else f"seed-{seed}")
    of_run.rng = Rng(seed)
    part.run(scale, seed, of_run, Out(results, run, of_run, name, None if part.once else seed))


def _of(claim: Claim, parts: Mapping[str, Part], results: Results) -> Scores:
    """Scores of the claim's parts, as far as they ran, and those that need all seeds."""
    return results.measured(*_parts_of(claim, parts), _ACROSS)


def _parts_of(claim: Claim, parts: Mapping[str, Part]) -> list[str]:
    """The claim's parts, as far as they ran."""
    return [name for name in claim.parts if name in parts] if claim.part else list(parts)


def _missing(
    claim: Claim,
    scores: Scores,
    seeds: Sequence[int],
    undefined: Mapping[tuple[str, str, Hashable], str],
    scale: str,
) -> str:
    """Why the claim has no finite number; empty if it has them all."""
    comparison = claim.comparison
    for arm in (comparison.left, comparison.right):
        if not isinstance(arm, str):
            continue
        whys = {unit: why for (a, m, unit), why in undefined.items() if (a, m) == (arm, comparison.metric)}
        if whys and scale == "smoke":
            continue
        for unit, why in whys.items():
            return f'Arm "{arm}" under {unit}: {why}'
        if arm not in scores:
            return (
                f'There is no arm "{arm}". {nearest(arm, scores)}' if scores else "It scored nothing at all."
            )
        values = scores[arm].get(comparison.metric)
        if values is None:
            return (
                f'Arm "{arm}" has no metric "{comparison.metric}". {nearest(comparison.metric, scores[arm])}'
            )
        for seed in seeds:
            if seed not in values:
                return f'Arm "{arm}" has no "{comparison.metric}" under seed {seed}.'
        for unit, value in values.items():
            numbers = list(numbers_in(value))
            if not numbers or not all(map(math.isfinite, numbers)):
                return f'Arm "{arm}" has {numbers or "no numbers"} as "{comparison.metric}" under {unit}.'
    return ""


def _quoted(name: str) -> str:
    return f'"{name}"'


def _words(cfg: Any) -> list[str]:
    """The words of the command that choose parts."""
    names = getattr(cfg, "parts", None)
    return [] if names is None else ["--parts", *([names] if isinstance(names, str) else names)]


def _write_summary(
    run: Run, cfg: Miniature, scale: Any, verdicts: Sequence[Verdict], numbers: Mapping[str, Any], *options: str
) -> None:  # fmt: skip
    """The run in one JSON file, `summary.json`: what was run with what, and what came out, per seed.

    Args:
        run: the run; the file is its artifact `summary`.
        cfg: its settings.
        scale: the sizes behind `cfg.scale`, a dataclass.
        verdicts: what became of the claims.
        numbers: the room's own numbers.
        options: the room's own words of the command.
    """
    words = ["--scale", cfg.scale, *options, "--seeds", str(cfg.seeds), "--seed", str(run.seed)]
    write_json(
        run.artifact("summary", run.folder / "summary.json"),
        {
            "method": run.method,
            "command": shlex.join(["gnomon", run.method, "mini", *words]),
            "environment": env.describe(),
            "scale": asdict(scale),
            **numbers,
            "verdicts": [verdict.as_row() for verdict in verdicts],
        },
    )
