"""Critiques: which examples a critic sees, what it is asked, what is read from its answer.

What critic and optimiser are asked, written from template files.

Text of others goes in as values and is never read as a template.
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
from gnomon.core.rng import Rng
from gnomon.errors import BadInput
from gnomon.methods.crispo.examples.data import Example, last_tagged
from gnomon.methods.crispo.scoring.calls import Asker, token_counter
from gnomon.methods.crispo.scoring.candidates import Candidate
from gnomon.methods.crispo.scoring.metrics import Metric

# What critic and optimiser are asked, written from template files.

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
    """The text that a template makes of values.

    Args:
        template: a name in the folder `prompts`, or a file of the user's own.
        values: what it may speak of.

    Raises:
        BadInput: the file cannot be read, or speaks of something that there is not.
    """
    try:
        return _template(str(template)).render(values).strip() + "\n"
    except TemplateError as error:
        raise BadInput(f"Template {template}: {error}. It may use {', '.join(sorted(values))}.") from None


# Critiques: which examples a critic sees, what it is asked, what is read from its answer.

log = logging.getLogger(__name__)

Pick = Literal["auto", "random", "lowest"]


@dataclass(frozen=True)
class Critic:
    """Writes critiques of prompts from what was written with them on train.

    A critic of a postscript never sees references: it compares predictions with inputs.
    """

    asker: Asker
    """Asks."""
    train: Sequence[Example]
    """Rows of train."""
    sources: Sequence[str]
    """Their inputs as the model was given them."""
    metrics: Sequence[Metric]
    """The first one picks examples; all may advise."""
    rng: Rng
    """Which examples are shown."""
    examples: int = 10
    """How many."""
    pick: Pick = "auto"
    """`random`; `lowest`: the lowest scores first, right rows never; auto: lowest where rows are right or wrong, else random."""
    main: str | None = None
    """The fixed prompt, where postscripts are tuned."""
    template: str | Path | None = None
    """A template of the user's own."""
    context_tokens: int | None = None
    """Longest request; examples are left out until it fits. None: what the model can hold, where that is known."""

    def chosen(self, candidate: Candidate) -> list[int]:
        """Places of the rows that the critic is shown; none when there is nothing wrong to look at."""
        draw = self.rng.child("critique", candidate.number).python()
        count = min(self.examples, len(self.train))
        metric = self.metrics[0]
        lowest = self.pick == "lowest" or (self.pick == "auto" and metric.is_exact)
        if not lowest:
            return draw.sample(range(len(self.train)), count)
        scores = [metric.better(value) for value in candidate.measured["train"].scores[metric.name]]
        perfect = metric.better(metric.high if metric.higher_is_better else metric.low)
        order = draw.sample(range(len(scores)), len(scores))  # rows that tie come in any order
        return [place for place in sorted(order, key=lambda i: scores[i]) if scores[place] < perfect][:count]

    def question(self, candidate: Candidate, places: Sequence[int]) -> str:
        """What the critic is asked about these rows."""
        predictions = candidate.measured["train"].predictions
        examples: list[dict[str, Any]] = []
        for place in places:
            one = {"input": self.sources[place], "prediction": predictions[place]}
            examples.append(
                one if self.main is not None else one | {"references": self.train[place].references}
            )
        notes = [
            metric.advise(predictions, self.train) for metric in self.metrics if metric.advise is not None
        ]
        values = {"instruction": candidate.text, "main": self.main, "examples": examples, "notes": notes}
        return write(self.template or ("critic" if self.main is None else "suffix_critic"), values)

    async def critique(self, candidate: Candidate) -> str | None:
        """What the critic says of a candidate; None when it says nothing or has nothing to look at.

        Without the tag the whole answer is the critique.
        """
        places = self.chosen(candidate)
        if not places:
            return None
        count, room = token_counter(self.asker.llms.critic)
        limit = self.context_tokens or (None if room is None else room - self.asker.llms.decoding.meta_tokens)
        text = self.question(candidate, places)
        while limit is not None and count(text) > limit and len(places) > 1:
            places = places[:-1]
            text = self.question(candidate, places)
        if len(places) < min(self.examples, len(self.train)) and limit is not None:
            log.info("prompt %d: the critic is shown %d examples.", candidate.number, len(places))
        reply = await self.asker.ask("critic", text, f"critique of prompt {candidate.number}")
        if reply.finish == "refusal":
            log.warning("prompt %d: the critic refused.", candidate.number)
            return None
        return (last_tagged(reply.text, "critique") or reply.text.strip()) or None
