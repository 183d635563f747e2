"""Episodes played side by side: all that are live ask a policy together, and what came of it is written down as plain rows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from gnomon.core.rng import Rng
from gnomon.errors import BadInput, LLMFailure

if TYPE_CHECKING:
    from gnomon.core.llm.base import LLM
    from gnomon.core.models import GenConfig

log = logging.getLogger(__name__)

Prompt = Any
"""A text, or a text and its images."""
Policy = Callable[[Sequence[Prompt], Sequence[Rng]], Sequence[str]]
"""(prompts of the live episodes, a random stream for each) -> what is done in each."""


@runtime_checkable
class Episode(Protocol):
    """Something that goes on for several turns. `read`, text -> the action it means or None, may be there too."""

    @property
    def is_done(self) -> bool:
        """Whether it has ended."""

    @property
    def outcome(self) -> Any:
        """What came of it so far: a number, a text, or None."""

    def prompt(self) -> Prompt:
        """What the policy is asked now: a text, or a text and its images."""

    def act(self, text: str) -> None:
        """Do what the policy said; what cannot be read is for the episode to deal with."""


@dataclass(frozen=True)
class Trace:
    """One turn of an episode. `examples` reads it back as a prompt and its completion."""

    id: str
    """The episode's number and the turn's: `3.0`."""
    episode: int
    step: int
    prompt: str
    images: tuple[Any, ...]
    text: str
    """What the policy said, as it came."""
    action: Any
    """What the episode's `read` made of it; the text itself where it has none; None where it cannot be read."""
    outcome: Any
    """Of the whole episode, the same for all of its turns."""
    ended: str
    """Why the episode ended: `done`, `limit`, or `error: ` and what it raised."""


def play(
    episodes: Sequence[Episode],
    policy: Policy | Callable[[list[Prompt]], Sequence[str]],
    limit: int,
    *,
    rng: Rng | None = None,
) -> list[Trace]:
    """The turns of all episodes, episode by episode.

    Each turn asks the policy once for all episodes that are live. An episode that raises ends there, and the others go on; an
    error of the policy ends the play. Random streams are named by episode and turn: what is drawn does not depend on the company.

    Args:
        episodes: none of them asked yet.
        policy: `model_policy`, `llm_policy`, `choice_policy`, or a function from a list of prompts to as many texts.
        limit: most turns of an episode.
        rng: names the random streams, for policies that draw.

    Raises:
        BadInput: the policy gave another number of texts, or something else.
    """
    rng = rng or Rng(0)
    turns: list[list[tuple[str, tuple[Any, ...], str, Any]]] = [[] for _ in episodes]
    ended: dict[int, str] = {}
    n_unreadable = 0
    for step in range(limit):
        prompts: dict[int, Prompt] = {}
        for i, episode in enumerate(episodes):
            if i in ended:
                continue
            try:
                if episode.is_done:
                    ended[i] = "done"
                else:
                    prompts[i] = episode.prompt()
            except Exception as error:  # whatever a user's episode raises ends this episode alone
                ended[i] = _said(error)
        if not prompts:
            break
        streams = [rng.child("episode", i, "step", step) for i in prompts]
        texts = _asked(policy, list(prompts.values()), streams)
        for (i, prompt), text in zip(prompts.items(), texts, strict=True):
            shown, images = (prompt, ()) if isinstance(prompt, str) else (prompt[0], tuple(prompt[1]))
            action: Any = text
            try:
                if (read := getattr(episodes[i], "read", None)) is not None:
                    action = read(text)
                    n_unreadable += action is None
                episodes[i].act(text)
            except Exception as error:  # as above
                ended[i] = _said(error)
            turns[i].append((shown, images, text, action))
    if n_unreadable:
        log.warning("%d of %d turns cannot be read as an action.", n_unreadable, sum(map(len, turns)))
    traces = []
    for i, episode in enumerate(episodes):
        try:
            outcome = episode.outcome
            why = ended.get(i, "done" if episode.is_done else "limit")
        except Exception as error:  # as above
            outcome, why = None, ended.get(i, _said(error))
        traces += [
            Trace(f"{i}.{step}", i, step, shown, images, text, action, outcome, why)
            for step, (shown, images, text, action) in enumerate(turns[i])
        ]
    return traces


def model_policy(model: Any, tokenizer: Any = None, gen: GenConfig | None = None) -> Policy:
    """A model in this process as a policy: one `generate` call for all prompts.

    Args:
        model: a handle, or a transformers model with its tokenizer; a vision-language handle where prompts have images.
        tokenizer: beside a plain model.
        gen: how to sample; one completion each.
    """
    from gnomon.core.models import GenConfig, generate

    settings = gen or GenConfig()

    def say(prompts: Sequence[Prompt], streams: Sequence[Rng]) -> list[str]:
        texts = [prompt if isinstance(prompt, str) else prompt[0] for prompt in prompts]
        images = [() if isinstance(prompt, str) else tuple(prompt[1]) for prompt in prompts]
        shown = {"images": images} if any(images) else {}
        done = generate(model, tokenizer, texts, settings, generator=list(streams), **shown)
        return [completions[0].text for completions in done]

    return _streamed(say)


def choice_policy(
    model: Any, tokenizer: Any, choices: Sequence[str], *, per_token: bool = False, batch_size: int = 16
) -> Policy:
    """A model that takes the likeliest of several actions.

    Args:
        model: a causal or sequence-to-sequence model, or a handle.
        tokenizer: beside a plain model; None with a handle.
        choices: the actions.
        per_token: by the mean of an action's log-probabilities instead of their sum, which is larger for short ones.
        batch_size: prompts side by side.
    """
    from gnomon.core.models.reading import unpack
    from gnomon.core.models.sampling.likelihood import score_choices

    plain, words = unpack(model, tokenizer)

    def say(prompts: Sequence[Prompt], streams: Sequence[Rng]) -> list[str]:
        ids = [list(words(str(prompt))["input_ids"]) for prompt in prompts]
        scores, lengths = score_choices(plain, words, ids, choices, batch_size=batch_size)
        sizes = lengths if per_token else [1] * len(choices)
        best = [max(range(len(choices)), key=lambda k: row[k] / sizes[k]) for row in scores]
        return [choices[k] for k in best]

    return _streamed(say)


def llm_policy(llm: LLM, *, concurrency: int = 8, **sampling: Any) -> Policy:
    """A language model that a run opened as a policy.

    Args:
        llm: who is asked.
        concurrency: requests under way at once.
        **sampling: for `gnomon.core.llm.ask`: `temperature`, `max_tokens`, `choices`, `system`.
    """
    from gnomon.core.llm import ask, complete

    def say(prompts: Sequence[Prompt], streams: Sequence[Rng]) -> list[str]:
        # The same position in two episodes is drawn apart by the place among equal prompts.
        before: dict[str, int] = {}
        requests = []
        for prompt in map(str, prompts):
            draw = before[prompt] = before.get(prompt, -1) + 1
            requests.append(ask(prompt, draw=draw, **sampling))
        replies = complete(llm, requests, concurrency=concurrency)
        for reply in replies:
            if reply.error is not None:
                raise LLMFailure(f"The policy gave no answer: {reply.error}")
        return [reply.text for reply in replies]

    return _streamed(say)


def _streamed(say: Policy) -> Policy:
    say.takes_streams = True  # type: ignore[attr-defined]
    return say


def _asked(policy: Any, prompts: list[Prompt], streams: list[Rng]) -> list[str]:
    texts = list(policy(prompts, streams) if getattr(policy, "takes_streams", False) else policy(prompts))
    if len(texts) != len(prompts) or not all(isinstance(text, str) for text in texts):
        raise BadInput(
            f"The policy gave {len(texts)} answers for {len(prompts)} prompts; wanted a text for each."
        )
    return texts


def _said(error: Exception) -> str:
    return f"error: {type(error).__name__}: {error}"
