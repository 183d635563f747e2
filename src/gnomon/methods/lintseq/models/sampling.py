"""Programs from a tuned model, local or served: prompts in, completions out, edits resolved to code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from gnomon.core.data.execute import Rejected
from gnomon.core.llm import LLM, Usage, ask, complete
from gnomon.core.llm.base import seed_for
from gnomon.core.models import GenConfig, generate
from gnomon.core.rng import Rng
from gnomon.core.too_long import TooLong, fit_rows, positions_of
from gnomon.errors import BadConfig, ModelMismatch
from gnomon.methods.lintseq.edits.diffs import DIFF_TOKEN, resolve
from gnomon.methods.lintseq.models.training import program_pair, target_encoder

Mode = Literal["editseq", "program"]

LONG = "the prompt is longer than the model reads"
"""Why a row of a model in this process was rejected, or cut."""

STOP = f"\n{DIFF_TOKEN}\n{DIFF_TOKEN}"
"""An empty edit: the model has finished."""


@dataclass(frozen=True)
class Prompt:
    """What to write a program for."""

    task_id: str
    text: str
    """The instruction, or the head of a function to continue."""


@dataclass(frozen=True)
class Sampled:
    """One completion; the record that `sample` writes."""

    task_id: str
    sample: int
    """Number among the prompt's completions, from 0."""
    prompt: str
    completion: str
    """What the model wrote."""
    program: str | None
    """The completion as code; None when strict resolving voided it."""
    n_hunks: int
    n_malformed: int
    """Hunks that could not be read (0 for whole programs)."""
    prompt_tokens: int
    generated_tokens: int
    finish: str
    """Why generation ended: eos, stop, length."""


def prompt_text(instruction: str, mode: Mode) -> str:
    """The text that the model continues.

    Source: D.13.
    """
    return (
        f"{instruction}\n{DIFF_TOKEN}" if mode == "editseq" else program_pair(instruction, "x", 0).instruction
    )


def prompt_ids(instruction: str, tokenizer: Any, mode: Mode) -> list[int]:
    """The prompt as ids, tokenised as in training: instruction and target apart."""
    if mode == "program":
        return list(tokenizer(prompt_text(instruction, mode))["input_ids"])
    return [*tokenizer(instruction)["input_ids"], *target_encoder(tokenizer)(f"\n{DIFF_TOKEN}")]


def sample_local(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    mode: Mode,
    gen: GenConfig,
    *,
    rng: Rng,
    strict: bool = False,
    too_long: TooLong = "error",
) -> list[Sampled | Rejected]:
    """`gen.n` completions of each prompt from a model in this process; a rejected row for each prompt that was too long.

    Raises:
        BadInput: a prompt leaves no room for a program, and that is an error.
        ModelMismatch: edits are asked of a model that was not tuned to write them.
    """
    if mode == "editseq" and DIFF_TOKEN not in tokenizer.get_vocab():
        raise ModelMismatch(
            f'The model does not know "{DIFF_TOKEN}" and cannot write edits. '
            "Tune it with `gnomon lintseq train`, or use --mode program."
        )
    positions = positions_of(model)
    fitted = fit_rows(
        [prompt_ids(prompt.text, tokenizer, mode) for prompt in prompts],
        [prompt.task_id for prompt in prompts],
        None if positions is None else positions - 1,
        too_long,
        model=str(getattr(model, "name_or_path", "")) or "the model",
    )
    prompts, ids = [prompts[i] for i in fitted.kept], fitted.rows
    stop = (*gen.stop, STOP) if mode == "editseq" else gen.stop
    rows = generate(model, tokenizer, ids, replace(gen, stop=stop), generator=rng)
    sampled: list[Sampled | Rejected] = [
        _sampled(prompt, number, done.text, mode, strict, len(ids[at]), len(done.token_ids), done.finish)
        for at, (prompt, completions) in enumerate(zip(prompts, rows, strict=True))
        for number, done in enumerate(completions)
    ]
    return sampled + [Rejected(LONG, vars(row)) for row in fitted.long]


def sample_served(
    llm: LLM,
    prompts: Sequence[Prompt],
    mode: Mode,
    gen: GenConfig,
    *,
    seed: int = 0,
    concurrency: int = 8,
    strict: bool = False,
) -> list[Sampled | Rejected]:
    """`gen.n` completions of each prompt from a model that continues texts, see `open_completions`.

    Args:
        llm: what is asked.
        prompts: what to complete.
        mode: what the served model writes.
        gen: sampling; `batch_size` does not apply.
        seed: of the run, one higher per completion; see `seed_for` of `gnomon.core.llm.base`.
        concurrency: requests in flight at once.
        strict: void completions with malformed hunks.

    Returns:
        The completions in the order of the prompts; a rejected row with its reason where none came.

    Raises:
        BadConfig: `gen.top_k` is set, which endpoints do not take.
    """
    if gen.top_k is not None:
        raise BadConfig("gen.top_k does not reach a served model; use gen.top_p, or a model in this process.")
    stop = (*gen.stop, STOP) if mode == "editseq" else gen.stop
    pairs = [(prompt, number) for prompt in prompts for number in range(gen.n)]
    requests = [
        ask(
            prompt_text(prompt.text, mode),
            temperature=gen.temperature_of(number),
            top_p=None if gen.top_p == 1 else gen.top_p,
            max_tokens=gen.max_new_tokens,
            stop=tuple(stop),
            seed=seed_for(llm, seed),
            draw=number,
        )
        for prompt, number in pairs
    ]
    rows: list[Sampled | Rejected] = []
    for (prompt, number), reply in zip(pairs, complete(llm, requests, concurrency=concurrency), strict=True):
        if reply.error is not None:
            rows.append(Rejected(reply.error, {"task_id": prompt.task_id, "sample": number}))
            continue
        usage = Usage() if reply.usage.is_estimate else reply.usage
        rows.append(
            _sampled(
                prompt, number, reply.text, mode, strict, usage.tokens_in, usage.tokens_out, reply.finish
            )
        )
    return rows


def _sampled(
    prompt: Prompt,
    number: int,
    text: str,
    mode: Mode,
    strict: bool,
    prompt_tokens: int,
    generated_tokens: int,
    finish: str,
) -> Sampled:
    program: str | None = text
    n_hunks = n_malformed = 0
    if mode == "editseq":
        resolved = resolve(text, strict=strict)
        program, n_hunks, n_malformed = resolved.code, resolved.n_hunks, resolved.n_malformed
    return Sampled(
        prompt.task_id,
        number,
        prompt.text,
        text,
        program,
        n_hunks,
        n_malformed,
        prompt_tokens,
        generated_tokens,
        finish,
    )
