"""Settings of the calm verbs and the claims its miniature tests. Defaults are the paper's (camera-ready version)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from gnomon.core.claims import Claim
from gnomon.core.config import Positional, check
from gnomon.core.llm.config import LLMConfig
from gnomon.core.study import Miniature, check_parts

PAPER = "Justice or Prejudice?, arXiv 2410.02736"

Kind = Literal["pairwise", "pointwise", "logit", "reward", "function"]


@dataclass(frozen=True, kw_only=True)
class Counting:
    """How verdicts are counted."""

    paper_version: Literal["iclr", "preprint"] = "iclr"
    """Formulas of the camera-ready version; preprint: error rates without their sign, plain accuracies in place of AIR."""
    half_ties: bool = False
    """A tie beside a preference counts one half; else a tie is a verdict of its own."""
    smallest: float = 0.1
    """The shift that would matter: where one of this size would have been missed, the word is "undecided"."""

    def __post_init__(self) -> None:
        check(0 < self.smallest <= 1, "smallest", "above 0 and at most 1", self.smallest)


@dataclass(frozen=True, kw_only=True)
class Items:
    """Which items and which biases."""

    GROWS: ClassVar = ("bias", "limit")
    INPUTS: ClassVar = ("source",)

    source: Positional[str]
    """Items: a file (JSON, JSONL, CSV, Parquet) or a folder with sub-folders of rows with question, answer1 (the better) and
    answer2; a preference set with chosen and rejected; the released data; another table of pairs; a run of `perturb`; or hf://name."""
    bias: tuple[str, ...] = ("all",)
    """Biases: position, verbosity, compassion-fade, bandwagon, distraction, fallacy-oversight, authority, sentiment, diversity,
    chain-of-thought, self-enhancement, refinement-aware; or all."""
    set: Literal["fact", "alignment", "refinement"] | None = None
    """Which set all items belong to. None: each row says, or its columns or the file's name do."""
    limit: int | None = None
    """Only so many items of each set. None: all."""
    keep_nsfw: bool = False
    """Keep rows whose source names explicit content."""
    keep_duplicates: bool = False
    """Keep rows whose question another row of the set asks."""
    cues: Path | None = None
    """YAML file of stimuli: groups, names, majorities, tones. None: the room's."""

    def __post_init__(self) -> None:
        check(self.limit is None or self.limit >= 1, "limit", ">= 1", self.limit)


@dataclass(frozen=True, kw_only=True)
class Perturb(Items):
    """Write the rewritten answers that some biases need, each checked."""

    writer: str | None = None
    """Language model that rewrites, such as openai:MODEL or hf:FOLDER; not the judge you will audit. None: sentences by rule."""
    checker: str | None = None
    """Language model that says whether the meaning was kept, beside the rules. None: the rules alone."""
    temperature: float = 0.7
    """Of the writer."""
    export: bool = False
    """Also write the prompts for other harnesses: inspect.jsonl for inspect_ai and lm_eval/ for lm-eval-harness."""
    llm: LLMConfig = field(default_factory=LLMConfig)
    """How language models are asked."""


@dataclass(frozen=True, kw_only=True)
class Audit(Items, Counting):
    """Measure the biases of one judge or several."""

    GROWS: ClassVar = (*Items.GROWS, "repeats", "mitigate")  # type: ignore[assignment]

    judge: tuple[str, ...] = ()
    """Judges: openai:MODEL, http://host:8000/v1#MODEL, hf:FOLDER ...; for logit and reward a folder or hub id; for function
    module:function or path/to/file.py:function. Self-enhancement needs two or more."""
    kind: Kind = "pairwise"
    """pairwise: sees all answers; pointwise: scores each alone; logit: a local model's log-probabilities of the letters; reward: a
    reward model; function: your own."""
    repeats: int = 2
    """Independent plain runs of every item; the noise floor comes from them."""
    temperature: float = 0.7
    """Of the judge."""
    max_tokens: int = 1024
    """Longest answer of the judge, in tokens."""
    style: Literal["brackets", "json", "token"] = "brackets"
    """How the verdict is written: [[A]] behind a reason, a JSON object, or the letter alone."""
    ties: bool = False
    """Let the judge say that answers are equally good."""
    note: Literal["after", "instruction"] = "after"
    """Where remarks about answers stand: after the answers, as in the released prompts, or in the instruction, as the paper
    says."""
    template: Path | None = None
    """Your own prompt of a comparison, with $question, $answers and $ending. None: the room's."""
    mitigate: tuple[str, ...] = ()
    """Mitigations to measure beside each judge: swap, rotate, blind, strip, length, detect, panel."""
    stop_width: float | None = None
    """Stop asking a condition once its RR is known to within this on either side, such as 0.03. None: ask all items."""
    llm: LLMConfig = field(default_factory=LLMConfig)
    """How language models are asked."""

    def __post_init__(self) -> None:
        Items.__post_init__(self)
        Counting.__post_init__(self)
        check(
            self.repeats >= 2,
            "repeats",
            ">= 2: without a second plain run there is no noise floor",
            self.repeats,
        )
        check(self.temperature >= 0, "temperature", ">= 0", self.temperature)
        check(self.max_tokens >= 1, "max_tokens", ">= 1", self.max_tokens)
        check(
            self.stop_width is None or 0 < self.stop_width < 0.5,
            "stop_width",
            "between 0 and 0.5",
            self.stop_width,
        )


@dataclass(frozen=True, kw_only=True)
class Import:
    """Read a log of another tool, or the released data."""

    source: Positional[str]
    """The file, or a folder with sub-folders."""
    format: Literal["auto", "judgebench", "mtbench-pair", "alpacaeval", "csv", "calm"] = "auto"
    """judgebench: its output rows; mtbench-pair: FastChat's model_judgment pairs; alpacaeval: its annotations; csv: a table of
    pairs with a column for the winner, the answer of the first column shown first; auto: one of these; calm: the released data or
    any other that audit reads, which become items."""
    keep_nsfw: bool = False
    """Keep rows whose source names explicit content (calm)."""


@dataclass(frozen=True, kw_only=True)
class Analyze(Counting):
    """Profiles from verdicts that are there already."""

    source: Positional[str]
    """Verdicts: a run of `audit` or `import`, or its file."""


@dataclass(frozen=True, kw_only=True)
class Compare(Counting):
    """Judges side by side, on the items that both judged."""

    left: Positional[str]
    """Verdicts: a run of `audit` or `import`, or its file."""
    right: Positional[str]
    """Verdicts of another run."""
    more: tuple[str, ...] = ()
    """Further ones."""


@dataclass(frozen=True, kw_only=True)
class Validate:
    """Plant biases of known size and see whether the audit finds them, and finds nothing where there is nothing."""

    audits: int = 1000
    """Simulated audits of each bias."""
    n: int = 439
    """Items of each audit; the paper's alignment set has 439."""
    through_text: int = 150
    """Items of one audit more that goes through prompts and replies of a simulated judge; 0: none."""

    def __post_init__(self) -> None:
        check(self.audits >= 20, "audits", ">= 20", self.audits)
        check(self.n >= 20, "n", ">= 20", self.n)
        check(
            self.through_text == 0 or self.through_text >= 20,
            "through_text",
            "0, or >= 20",
            self.through_text,
        )


@dataclass(frozen=True, kw_only=True)
class Power:
    """What a number of items can show."""

    n: int = 150
    """Items."""
    rr: float = 0.8
    """A consistency to give the interval of."""
    cr: float = 0.9
    """How often two plain runs of the judge agree."""
    effects: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2)
    """Shifts to give the power for."""

    def __post_init__(self) -> None:
        check(self.n >= 1, "n", ">= 1", self.n)
        check(0 <= self.rr <= 1, "rr", "between 0 and 1", self.rr)
        check(0 <= self.cr <= 1, "cr", "between 0 and 1", self.cr)
        check(
            bool(self.effects) and min(self.effects) > 0,
            "effects",
            "one or more numbers above 0",
            self.effects,
        )


@dataclass(frozen=True, kw_only=True)
class Mini(Miniature):
    """The miniature: planted judges, trained judges, and the paper's qualitative claims, each with its noise floor."""

    parts: tuple[str, ...] = ("planted", "trained", "claims")
    """Which parts to run: planted (judges of known bias, through text and HTTP), trained (tiny models with biased training
    data), claims (candidates, quality gaps, and re-ordering)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_parts(self.parts, ("planted", "trained", "claims"))


CLAIMS = (
    Claim(
        "Planted biases are recovered: every probe's interval covers its truth in at least 92% of the audits",
        "specification: calibration",
        "smallest coverage: planted judges >= 0.92",
        part="planted",
    ),
    Claim(
        "Without a bias, flags stay at their level",
        "specification: calibration",
        "share of cells flagged: unbiased judge <= 0.06",
        part="planted",
    ),
    Claim(
        "The cue of one probe moves that probe alone",
        "specification: calibration",
        "largest share of other probes flagged: planted judges <= 0.06",
        part="planted",
    ),
    Claim(
        "Through prompts and replies, the shift of every planted cue is within 0.12 of its truth on these items",
        "specification: layer 1",
        "largest error of a shift: planted judges through text <= 0.12",
        part="planted",
    ),
    Claim(
        "A judge that answers gibberish 10% of the time is reported as such",
        "specification: layer 1",
        "share not read: planted judges through text == 0.1",
        margin=0.03,
        part="planted",
    ),
    Claim(
        "A planted self bonus of half a point is recovered",
        "specification: layer 1",
        "self bonus: planted judges through text == 0.5",
        margin=0.25,
        part="planted",
    ),
    Claim(
        "A judge trained on data in which half of the labels follow a cue leans to the cue by 0.15 more than one that was not",
        f"{PAPER}: bias from training data",
        "smallest shift by its own cue: half of the labels >= no label",
        margin=0.15,
        part="trained",
    ),
    Claim(
        "The lean grows with the share of labels that follow the cue",
        f"{PAPER}: bias from training data",
        "share of cues with growing shift: trained judges == 1.0",
        part="trained",
    ),
    Claim(
        "Cues a judge was not trained on move it by less than 0.08",
        "specification: layer 2",
        "largest shift by another cue: trained judges < 0.08",
        part="trained",
    ),
    Claim(
        "The judge trained without a cue can judge",
        "specification: layer 2",
        "accuracy: no label >= 0.8",
        part="trained",
    ),
    Claim(
        "A liking for the first slot costs consistency beyond chance with two candidates",
        f"{PAPER}: position bias",
        "CR - RR, 2 candidates: slot bonus 1 > 0",
        part="claims",
    ),
    Claim(
        "The same with three candidates",
        f"{PAPER}: position bias",
        "CR - RR, 3 candidates: slot bonus 1 > 0",
        part="claims",
    ),
    Claim(
        "The same with four candidates",
        f"{PAPER}: position bias",
        "CR - RR, 4 candidates: slot bonus 1 > 0",
        part="claims",
    ),
    Claim(
        "The smaller the gap in quality, the larger the effect of a cue",
        f"{PAPER}: position bias and answer quality",
        "shift: gap 1 > gap 4",
        part="claims",
    ),
    Claim(
        "BIS tells a noisy judge from a biased one where RR puts them the wrong way round",
        f"{PAPER}: bias score",
        "BIS: quiet and biased > noisy and fair",
        part="claims",
    ),
)
"""What the miniature tests; the thresholds are the specification's."""
