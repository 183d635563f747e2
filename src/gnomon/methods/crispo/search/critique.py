"""Critiques of prompts: the examples shown to the critic, its request and its answer.

Requests to critic and optimiser are written from the templates in `prompts/`. Prompts, rows and critiques go in as values and are
never read as templates.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, TemplateError

from gnomon.core.files import room_file
from gnomon.core.llm.parse import ends_inside, tagged
from gnomon.core.rng import Rng
from gnomon.errors import BadInput
from gnomon.methods.crispo.examples.data import Example
from gnomon.methods.crispo.scoring.calls import Asker, failure_of, token_counter
from gnomon.methods.crispo.scoring.candidates import Candidate
from gnomon.methods.crispo.scoring.metrics import Metric

# Templates

FOLDER = room_file(__name__, "prompts")


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _template(where: str) -> Template:
    if Path(where).name == where:
        return _environment().get_template(f"{where}.txt.j2")
    try:
        return _environment().from_string(Path(where).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, TemplateError) as error:
        raise BadInput(
            f"{where}: not a prompt template ({error}). Compare those of this room in {FOLDER.name}/."
        ) from None


def write(template: str | Path, values: Mapping[str, Any]) -> str:
    """Fill a template.

    Args:
        template: a name in the folder `prompts`, or a file of the user's own.
        values: its variables.

    Raises:
        BadInput: the file cannot be read, or names a variable that there is not.
    """
    try:
        return _template(str(template)).render(values).strip() + "\n"
    except TemplateError as error:
        raise BadInput(f"Template {template}: {error}. It may use {', '.join(sorted(values))}.") from None


# The critic

log = logging.getLogger(__name__)

Pick = Literal["auto", "random", "lowest"]


@dataclass(frozen=True)
class Critic:
    """Critiques of prompts, from their predictions on train.

    A critic of a postscript never sees references: it compares predictions with inputs.

    Source: the paper's critique-suggestion step; for postscripts, its automatic suffix tuning.
    """

    asker: Asker
    train: Sequence[Example]
    """Rows of train."""
    sources: Sequence[str]
    """Inputs of train as the task model reads them."""
    metrics: Sequence[Metric]
    """The first one picks examples; all may advise."""
    rng: Rng
    """Draws the examples."""
    examples: int = 10
    """Most examples in a request."""
    pick: Pick = "auto"
    """`random`; `lowest`: the lowest scores first, right rows never; auto: lowest where rows are right or wrong, else random."""
    main: str | None = None
    """The fixed prompt, where postscripts are tuned."""
    template: str | Path | None = None
    """A template of the user's own."""
    context_tokens: int | None = None
    """Longest request; examples are left out until it fits. None: what the model can hold, where that is known."""

    def chosen(self, candidate: Candidate) -> list[int]:
        """Indices of the rows that the critic is shown; none when every row is right."""
        draw = self.rng.child("critique", candidate.number).python()
        measured, metric = candidate.measured["train"], self.metrics[0]
        answered = [i for i, text in enumerate(measured.predictions) if text is not None]
        count = min(self.examples, len(answered))
        lowest = self.pick == "lowest" or (self.pick == "auto" and metric.is_exact)
        if not lowest:
            return draw.sample(answered, count)
        scores = [metric.better(value) for value in measured.scores[metric.name]]
        perfect = metric.better(metric.high if metric.higher_is_better else metric.low)
        order = draw.sample(answered, len(answered))  # rows that tie come in any order
        return [index for index in sorted(order, key=lambda i: scores[i]) if scores[index] < perfect][:count]

    def question(self, candidate: Candidate, indices: Sequence[int]) -> str:
        """The request about these rows."""
        predictions = candidate.measured["train"].predictions
        answered = [
            (text, row) for text, row in zip(predictions, self.train, strict=True) if text is not None
        ]
        examples: list[dict[str, Any]] = []
        for index in indices:
            example = {"input": self.sources[index], "prediction": predictions[index]}
            examples.append(
                example if self.main is not None else example | {"references": self.train[index].references}
            )
        notes = [
            metric.advise([text for text, _ in answered], [row for _, row in answered])
            for metric in self.metrics
            if metric.advise is not None
        ]
        values = {"instruction": candidate.text, "main": self.main, "examples": examples, "notes": notes}
        return write(self.template or ("critic" if self.main is None else "suffix_critic"), values)

    async def critique(self, candidate: Candidate) -> str | None:
        """Ask for a critique of a candidate; None when the critic does not answer, writes nothing, or every row is right.

        Without the tag the whole answer is the critique.
        """
        indices = self.chosen(candidate)
        if not indices:
            return None
        count, room = token_counter(self.asker.llms.critic)
        limit = self.context_tokens or (None if room is None else room - self.asker.llms.decoding.meta_tokens)
        text = self.question(candidate, indices)
        while limit is not None and count(text) > limit and len(indices) > 1:
            indices = indices[:-1]
            text = self.question(candidate, indices)
        if len(indices) < min(self.examples, len(self.train)) and limit is not None:
            log.info("prompt %d: the critic is shown %d examples.", candidate.number, len(indices))
        reply = await self.asker.ask("critic", text, f"critique of prompt {candidate.number}")
        if failure := failure_of(reply):
            log.warning("prompt %d: no critique (%s).", candidate.number, failure)
            return None
        # An answer that was cut off has no closing tag: what it opened is the critique all the same.
        end = "</critique>" if ends_inside(reply.text, "critique") else ""
        return tagged(reply.text + end, "critique") or reply.text.strip() or None
