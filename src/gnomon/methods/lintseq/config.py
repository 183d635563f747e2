"""Settings of the lintseq verbs and the claims its miniature tests. Defaults are the paper's."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from gnomon.core.claims import Claim
from gnomon.core.config import Positional, Short, TextModel, check
from gnomon.core.data.config import Shards
from gnomon.core.llm.config import LLMConfig
from gnomon.core.models.load.config import LoadConfig
from gnomon.core.models.sampling.config import GenConfig
from gnomon.core.study import Miniature
from gnomon.core.too_long import RowLength
from gnomon.core.train.config import TrainConfig

DIFF_TOKEN = "<|diff|>"
"""The one vocabulary token that begins every edit."""

Linter = str
"""`pylint`, `pyflakes`, `ruff`, or a name given to `register_linter`."""

PAPER = "LintSeq, arXiv 2410.02749"


@dataclass(frozen=True, kw_only=True)
class Programs:
    """Where programs come from."""

    source: Positional[str]
    """Programs: records (.jsonl, .jsonl.gz, .jsonl.zst, .parquet, a folder, hf://name), a .py file or a folder of them, or
    `stdlib` (all functions and modules of this Python's standard library; `stdlib:functions`, `stdlib:modules`)."""
    code_field: str = "response"
    """Column that holds the program, or Markdown with fenced python blocks."""
    prompt_field: str = "instruction"
    """Column that holds the instruction."""
    min_lines: int = 1
    """Shortest program that is used, in lines."""
    max_lines: int | None = None
    """Longest program that is used, in lines. None: no limit."""
    limit: int | None = None
    """Use only this many programs, drawn with the run's seed. None: all."""

    def __post_init__(self) -> None:
        check(self.min_lines >= 1, "min_lines", ">= 1", self.min_lines)
        longest = self.max_lines
        check(
            longest is None or longest >= self.min_lines,
            "max_lines",
            f">= min_lines ({self.min_lines})",
            longest,
        )
        check(self.limit is None or self.limit >= 1, "limit", ">= 1", self.limit)


@dataclass(frozen=True, kw_only=True)
class Generate(Programs, Shards):
    """Sample lint-clean edit sequences for every program: backward deletion under a linter, then forward diffs."""

    samples: Annotated[int, Short("-s")] = 5
    """Independent edit sequences per program."""
    linter: Linter = "pylint"
    """Linter that every intermediate state must satisfy: pylint, pyflakes, ruff, or one you registered."""
    incremental: bool = True
    """Derive diagnostics from tables where that is certain and ask the linter elsewhere. The paths are the same, only sooner."""
    indent_bias: float = 1.0
    """Weight of a line per level of indentation when a deletion is drawn."""
    skip_comments: bool = True
    """Never start a deletion at a comment."""
    skip_globals: bool = True
    """Never start a deletion inside an open upper-case literal such as `TABLE = [`."""
    baseline_errors: Literal["subtract", "fail", "keep"] = "subtract"
    """What the program's own diagnostics mean: not counted, program rejected, or counted as in the reference."""
    normalise_indent: bool = True
    """Expand tabs in leading whitespace before anything else."""
    max_edits: int = 512
    """Upper bound on the edits of one sequence."""
    children_per_round: int = 1
    """Search: deletions tried per branch and round (the reference's search: 16)."""
    top_k: int = 1
    """Search: branches kept per round, those with most induced diagnostics first (the reference's search: 4)."""
    population: int = 1
    """Search: most branches alive at once (the reference's search: 64)."""

    def __post_init__(self) -> None:
        Programs.__post_init__(self)
        Shards.__post_init__(self)
        check(self.samples >= 1, "samples", ">= 1", self.samples)
        check(self.indent_bias > 0, "indent_bias", "> 0", self.indent_bias)
        check(self.max_edits >= 1, "max_edits", ">= 1", self.max_edits)
        for name in ("children_per_round", "top_k", "population"):
            check(getattr(self, name) >= 1, name, ">= 1", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class Randseq(Programs, Shards):
    """Sample edit sequences without a linter (the RandSeq ablation): random lines, in random chunks."""

    samples: Annotated[int, Short("-s")] = 5
    """Independent edit sequences per program."""
    normalise_indent: bool = True
    """Expand tabs in leading whitespace before anything else."""

    def __post_init__(self) -> None:
        Programs.__post_init__(self)
        Shards.__post_init__(self)
        check(self.samples >= 1, "samples", ">= 1", self.samples)


@dataclass(frozen=True, kw_only=True)
class Resolve:
    """Turn generated edit sequences back into programs."""

    source: Positional[str]
    """Records with edit text: what `sample` wrote, or any with the column `--field`."""
    field: str = "completion"
    """Column that holds the edit text (`edit_path` lists of diffs are understood as well)."""
    strict: bool = False
    """Void a record with a malformed hunk, and apply deletions as deletions; otherwise malformed hunks are skipped."""


@dataclass(frozen=True, kw_only=True)
class Check(Shards):
    """Audit edit sequences: whether each resolves to its program exactly and whether its states are lint-clean."""

    source: Positional[str]
    """Edit sequences: a run of `generate` or `randseq`, or records in the layout the released generator writes."""
    linter: Linter = "pyflakes"
    """Linter to audit with; any back end may check what another one made."""
    code_field: str = "response"
    """Column of the program; the records hold it as `source_<code_field>`."""


@dataclass(frozen=True, kw_only=True)
class Train(LoadConfig):
    """Fine-tune a causal language model on edit sequences, or on whole programs as the baseline."""

    data: Positional[str]
    """Edit sequences (a run of `generate` or records) or, with `--mode program`, records of whole programs as well."""
    model: TextModel
    """Model to start from: a folder or hub id of any causal language model."""
    mode: Literal["editseq", "program"] = "editseq"
    """Targets: diffs behind the diff token, or whole programs (one example per program)."""
    code_field: str = "response"
    """Column of the program."""
    prompt_field: str = "instruction"
    """Column of the instruction."""
    passes: int | None = 10
    """How often each program is seen, in place of train.epochs: s sequences per program make passes / s epochs, so that edit
    sequences and whole programs are matched. None: train.epochs counts."""
    truncated: Literal["drop", "keep"] = "drop"
    """What to do with examples longer than train.max_length, whose end marker is lost. Either way they are counted."""
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            lr=3e-4,
            batch_size=512,
            max_length=1024,
            reduction="sum",
            grad_clip=None,
            weight_decay=0.01,
            warmup_ratio=0.001,
        )
    )
    """Optimisation. Paper: lr 3e-4 (150M, 400M), 5e-5 (2B, 3.8B), 1e-5 (8B, 14B)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.passes is None or self.passes >= 1, "passes", ">= 1 or None", self.passes)
        self.check_trainable(self.train.lora_rank is None)


@dataclass(frozen=True, kw_only=True)
class Sample(LoadConfig, RowLength):
    """Write programs for instructions: n completions each, resolved to code where the model writes edits."""

    GROWS: ClassVar = ("gen.n",)

    prompts: Positional[str]
    """Instructions: records, or the file of a suite."""
    model: str | None = None
    """A tuned model: folder or hub id."""
    writer: str | None = None
    """Instead of --model: a served model that continues texts, behind `http://host:8000/v1#name`."""
    llm: LLMConfig = field(default_factory=LLMConfig)
    """How the writer is asked."""
    mode: Literal["editseq", "program"] = "editseq"
    """What the model writes."""
    suite: Literal["records", "humaneval", "mbpp"] = "records"
    """Layout of the prompts."""
    prompt_field: str = "instruction"
    """Column of the instruction in plain records."""
    style: Literal["instruction", "continue"] = "instruction"
    """HumanEval only: ask with an English instruction, or let the model continue the function's head."""
    strict: bool = False
    """Void a completion with a malformed hunk instead of skipping the hunk."""
    skip: int = 0
    """Leave out this many rows at the start of a suite (the reference skips the first 100 of MBPP)."""
    gen: GenConfig = field(default_factory=lambda: GenConfig(max_new_tokens=512, top_p=0.95, n=20))
    """Sampling. Paper: temperature 1 and top-p 0.95 for pass@k, temperature 0 for a single greedy program."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            (self.model is None) != (self.writer is None),
            "model, writer",
            "exactly one of the two",
            [self.model, self.writer],
        )
        check(self.skip >= 0, "skip", ">= 0", self.skip)


@dataclass(frozen=True, kw_only=True)
class Eval:
    """Run generated programs against a suite's tests in the sandbox: pass@k, diversity, cost, lint errors."""

    samples: Positional[str]
    """What `sample` wrote, or records with task_id and completion."""
    data: str
    """The suite's file, with the tests."""
    suite: Literal["humaneval", "mbpp"] = "humaneval"
    """Layout of the suite."""
    k: Annotated[tuple[int, ...], Short("-k")] = (1, 5, 10, 50)
    """Values of k for pass@k; none may exceed the samples per task."""
    allow_code_execution: bool = False
    """Needed: this verb runs programs that a model wrote. They run in a sandbox, yet no sandbox is perfect."""
    timeout_s: float = 3.0
    """Wall-clock limit for one program with its tests."""
    memory_mb: int = 512
    """Memory limit for one program."""
    workers: int = 2
    """Programs run at once."""
    linter: Linter = "pyflakes"
    """Linter for the share of generated programs with errors."""
    parameters: int | None = None
    """Size of the model, for pass@k against FLOPs; the samples must count their tokens. None: not drawn."""

    def __post_init__(self) -> None:
        check(bool(self.k) and min(self.k) >= 1, "k", "one or more numbers >= 1", list(self.k))
        check(self.timeout_s > 0, "timeout_s", "> 0", self.timeout_s)


@dataclass(frozen=True, kw_only=True)
class Mini(Miniature):
    """The miniature: data properties on the standard library, and a small model trained on edits against its baselines."""

    parts: Literal["all", "data", "learning"] = "all"
    """Which half to run."""
    data_linter: Linter = "pyflakes"
    """Linter of the edit sequences."""
    model_dir: Path | None = None
    """Also save each arm's trained model below this folder. None: keep results only."""


CLAIMS = (
    Claim(
        "Every intermediate program of a LintSeq edit sequence is free of new lint errors",
        f"{PAPER}, section 3",
        "lint-clean states: lintseq == 1.0",
        part="data",
    ),
    Claim(
        "Edit sequences give their program back byte for byte",
        f"{PAPER}, section 3",
        "exact round trips: lintseq == 1.0",
        part="data",
    ),
    Claim(
        "A model trained on edit sequences writes hunks that resolve",
        f"{PAPER}, section 4",
        "well-formed samples: lintseq >= 0.9",
        part="learning",
    ),
    Claim(
        "Edits sampled under a linter teach more than random edits",
        f"{PAPER}, linter ablation (HumanEval pass@1 6.4 against 4.5, 150M)",
        "pass@10: lintseq >= randseq",
        part="learning",
    ),
    Claim(
        "Edit sequences match or beat whole programs when several samples may be drawn",
        f"{PAPER}, tables of TinyCodeLM (HumanEval pass@10 20.6 against 13.5, 150M)",
        "pass@10: lintseq > full",
        required=False,
        part="learning",
    ),
    Claim(
        "The gain over whole programs grows with the number of samples",
        f"{PAPER}, pass@k curves",
        "gain from pass@1 to pass@20: lintseq > full",
        required=False,
        part="learning",
    ),
)
"""What the miniature tests. The comparison with whole programs is reported, not required."""
