"""A checkpoint in this process: requests that wait together are answered in one padded batch.

Conversations as token ids, by the chat template of a tokenizer.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
import queue
import threading
import time
from collections import defaultdict
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnomon.core.config import check
from gnomon.core.llm.base import TOO_LONG, Message, Reply, Request, Usage
from gnomon.core.llm.endpoint.chat import folded
from gnomon.core.llm.endpoint.client import say_folded
from gnomon.core.llm.stack.stored import folder_state
from gnomon.core.models import Completion, GenConfig, ModelHandle, load_model, load_tokenizer
from gnomon.core.models.load import kind_of, model_at
from gnomon.core.models.load.config import LoadConfig
from gnomon.core.models.load.embedded import SCHEME
from gnomon.core.models.sampling.generate import Reader, generate
from gnomon.core.models.sampling.likelihood import score_choices
from gnomon.core.models.sampling.prefix import read_shared
from gnomon.core.models.sampling.sampler import end_loops
from gnomon.core.models.sampling.text import decode, padding_id
from gnomon.core.rng import Rng

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


# Conversations as token ids, by the chat template of a tokenizer.

log = logging.getLogger(__name__)

_PROBE = "a system text to look for"


class Template:
    """How one model wants a conversation written.

    Without a chat template the messages stand one after another with empty lines between. A template without a system role, one
    that refuses it or drops it, gets the system text at the start of the first user message. Either is logged once.

    Args:
        tokenizer: the model's tokenizer.
        name: what the model is called, for messages.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, name: str):
        self.tokenizer, self.name = tokenizer, name
        self.is_plain = not getattr(tokenizer, "chat_template", None)
        if self.is_plain:
            log.warning("%s has no chat template; messages are put one after another.", name)
        self._knows_system = self.is_plain or self._has_system_role()
        self._has_said = False

    def encode(self, request: Request) -> list[int]:
        """Token ids up to where the answer begins."""
        messages = request.messages
        if not self._knows_system and any(m.role == "system" for m in messages):
            if not self._has_said:
                say_folded(self.name)
                self._has_said = True
            messages = folded(messages)
        if self.is_plain:
            text = "\n\n".join(m.content for m in messages) + "\n\n"
            return list(self.tokenizer(text)["input_ids"])
        # The template writes the special tokens itself; the tokenizer must not add them again.
        return list(self.tokenizer(self._written(messages), add_special_tokens=False)["input_ids"])

    def _written(self, messages: tuple[Message, ...]) -> str:
        turns: Any = [{"role": m.role, "content": m.content} for m in messages]
        return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    def _has_system_role(self) -> bool:
        from jinja2 import TemplateError

        try:
            return _PROBE in self._written((Message("system", _PROBE), Message("user", "Hello")))
        except TemplateError:
            return False


class SeeingTemplate:
    """How a vision-language model wants a conversation with images written: by its processor, or in its family's plain form.

    Args:
        handle: the model.
        name: what it is called, for messages.
    """

    def __init__(self, handle: ModelHandle, name: str):
        self.handle, self.name = handle, name
        self.is_plain = not getattr(handle.processor, "chat_template", None)

    def written(self, request: Request) -> tuple[str, list[Any]]:
        """The text up to where the answer begins, with a place for each image, and the images in the order of their places."""
        from jinja2 import TemplateError

        messages = request.messages
        pictures = [part.open() for message in messages for part in message.images]
        if self.is_plain:
            text = "\n\n".join(message.content for message in messages)
            return str(self.handle.prompt(text, images=len(pictures)) if pictures else text), pictures
        try:
            return self._by_template(messages), pictures
        except TemplateError:  # it knows no system message
            say_folded(self.name)
            return self._by_template(folded(messages)), pictures

    def encode(self, request: Request) -> list[int]:
        """Token ids of a conversation without images."""
        text, _ = self.written(request)
        return list(self.handle.tokenizer(text, add_special_tokens=self.is_plain)["input_ids"])

    def _by_template(self, messages: tuple[Message, ...]) -> str:
        turns: Any = [
            {
                "role": m.role,
                "content": [*[{"type": "image"}] * len(m.images), {"type": "text", "text": m.content}],
            }
            for m in messages
        ]
        return str(
            self.handle.processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        )


# A checkpoint in this process: requests that wait together are answered in one padded batch.

LINGER_S = 0.005
"""How long the first request of a batch waits for others."""


@dataclass(frozen=True)
class _Sampling:
    """What requests of one batch have in common."""

    temperature: float
    top_p: float
    max_tokens: int
    stop: tuple[str, ...]
    choices: tuple[str, ...]


@dataclass(frozen=True)
class _Waiting:
    request: Request
    reply: Future[Reply]
    since_s: float


class Local:
    """The causal, sequence-to-sequence or vision-language model at `ref`, asked through its chat template.

    One thread runs the model. It takes all requests that wait, sorts them by their sampling settings and, within those, by length.
    What a row gets does not depend on what it was batched with: its random numbers come from its prompt and seed. With `choices`
    the answer is the choice with the largest log-probability, or one drawn by it at a temperature; `logprobs` then holds each.

    Args:
        ref: a folder, an adapter folder or a hub id.
        load: how it is loaded; None takes the defaults.
        batch_size: rows side by side.
        model: a loaded model to use in the place of `ref`; needs `tokenizer`.
        tokenizer: its tokenizer.

    Raises:
        BadInput: nothing is at `ref`.
        ModelMismatch: the model writes no text.
    """

    chooses = True

    def __init__(
        self,
        ref: str | Path,
        load: LoadConfig | None = None,
        *,
        batch_size: int = 16,
        model: Any = None,
        tokenizer: Any = None,
    ):
        check(batch_size >= 1, "batch_size", ">= 1", batch_size)
        self.name = str(ref) if str(ref).startswith(SCHEME) else f"hf:{ref}"
        load = load or LoadConfig()
        self.identity = f"{self.name} {folder_state(Path(model_at(ref)))}{_other_numbers(load)}"
        self.batch_size = batch_size
        self.handle: ModelHandle | None = None
        """The model with its processor, where it sees images."""
        self.template: Template | SeeingTemplate
        if model is None and kind_of(ref, revision=load.revision) == "vlm":
            self.handle = ModelHandle.load(ref, load, kind="vlm")
            self.model, self.tokenizer = self.handle.model, self.handle.tokenizer
            self.template = SeeingTemplate(self.handle, self.name)
        else:
            self.model = _open(ref, load) if model is None else model
            self.tokenizer = load_tokenizer(ref, load) if tokenizer is None else tokenizer
            self.template = Template(self.tokenizer, self.name)
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    async def acomplete(self, request: Request) -> Reply:
        """The reply to one request, answered together with those that wait beside it."""
        reply: Future[Reply] = Future()
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name=self.name, daemon=True)
                self._thread.start()
        self._waiting.put(_Waiting(request, reply, time.monotonic()))
        return await asyncio.wrap_future(reply)

    async def aclose(self) -> None:
        """End the thread, once what waits is answered."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._waiting.put(None)
            await asyncio.to_thread(thread.join)

    def _serve(self) -> None:
        while (first := self._waiting.get()) is not None:
            time.sleep(LINGER_S)
            batch = [first]
            while not self._waiting.empty():
                waiting = self._waiting.get_nowait()
                if waiting is None:
                    self._waiting.put(None)  # end after this batch
                    break
                batch.append(waiting)
            self._answer([waiting for waiting in batch if waiting.reply.set_running_or_notify_cancel()])

    def _answer(self, batch: list[_Waiting]) -> None:
        groups: defaultdict[_Sampling, list[_Waiting]] = defaultdict(list)
        for waiting in batch:
            groups[_sampling(waiting.request)].append(waiting)
        for sampling, rows in groups.items():
            try:
                self._answer_group(sampling, rows)
            except Exception as error:  # whoever waits must hear of it; what it is, they decide
                for waiting in rows:
                    if not waiting.reply.done():
                        waiting.reply.set_exception(error)

    def _answer_group(self, sampling: _Sampling, rows: list[_Waiting]) -> None:
        positions = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        # Equal prompts with equal seeds have equal answers.
        prompts: defaultdict[tuple[int, tuple[int, ...]], list[_Waiting]] = defaultdict(list)
        for waiting in rows:
            if any(message.images for message in waiting.request.messages):
                waiting.reply.set_result(_told(self._see(sampling, waiting.request), waiting))
                continue
            ids = self.template.encode(waiting.request)
            if positions is not None and len(ids) + bool(sampling.choices) >= positions:
                message = (
                    f"The prompt has {len(ids)} tokens and {self.name} {positions} positions. Shorten it."
                )
                waiting.reply.set_result(Reply("", "error", error=message, fault=TOO_LONG))
            else:
                prompts[_seed(waiting.request), tuple(ids)].append(waiting)
        if not prompts:
            return
        answer = self._choose if sampling.choices else self._write
        replies = answer(sampling, [list(ids) for _, ids in prompts], [Rng(seed) for seed, _ in prompts])
        for same, reply in zip(prompts.values(), replies, strict=True):
            for waiting in same:
                waiting.reply.set_result(_told(reply, waiting))

    def _write(self, sampling: _Sampling, prompts: list[list[int]], rngs: list[Rng]) -> list[Reply]:
        gen = GenConfig(
            sampling.max_tokens, sampling.temperature, sampling.top_p, 1, sampling.stop, self.batch_size
        )
        streams = [rng.child("chat") for rng in rngs]
        reader = Reader(partial(read_shared, self.model, pad_id=padding_id(self.tokenizer)))
        watch = end_loops if sampling.temperature == 0 else None
        if self.handle is not None:
            completions = self.handle.generate(prompts, gen, generator=streams, watch=watch)
        else:
            completions = generate(
                self.model, self.tokenizer, prompts, gen, generator=streams, reader=reader, watch=watch
            )
        return [self._reply(done, len(prompt)) for prompt, (done,) in zip(prompts, completions, strict=True)]

    def _see(self, sampling: _Sampling, request: Request) -> Reply:
        """The reply to a request with images; each by itself, since images of one size are rare."""
        positions = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        if self.handle is None or sampling.choices:
            what = "sees no images" if self.handle is None else "chooses between answers without images alone"
            error = f"{self.name} {what}. Name a vision-language model, or ask in words."
            return Reply("", "error", error=error, fault="rejected")
        assert isinstance(self.template, SeeingTemplate)
        text, pictures = self.template.written(request)
        (seen,) = self.handle.see([text], [pictures])
        if positions is not None and len(seen.ids) >= positions:
            message = f"The prompt has {len(seen.ids)} tokens with its images and {self.name} {positions} positions. Shorten it."
            return Reply("", "error", error=message, fault=TOO_LONG)
        gen = GenConfig(sampling.max_tokens, sampling.temperature, sampling.top_p, 1, sampling.stop, 1)
        watch = end_loops if sampling.temperature == 0 else None
        streams = [Rng(_seed(request)).child("chat")]
        ((done,),) = self.handle.generate([text], gen, generator=streams, images=[pictures], watch=watch)
        return self._reply(done, len(seen.ids))

    def _reply(self, done: Completion, tokens: int) -> Reply:
        """The reply in what was written behind so many tokens."""
        shown = done.token_ids[:-1] if done.finish == "eos" else done.token_ids
        pairs = tuple(
            (decode(self.tokenizer, [i]), value) for i, value in zip(shown, done.logprobs, strict=False)
        )
        finish = "length" if done.finish in ("length", "watch") else "stop"
        return Reply(done.text, finish, Usage(tokens, len(done.token_ids)), pairs)

    def _choose(self, sampling: _Sampling, prompts: list[list[int]], rngs: list[Rng]) -> list[Reply]:
        scores, lengths = score_choices(
            self.model, self.tokenizer, prompts, sampling.choices, batch_size=self.batch_size
        )
        replies = []
        for prompt, values, rng in zip(prompts, scores, rngs, strict=True):
            at = pick(values, sampling.temperature, rng.child("choice", *prompt).python().random())
            pairs = tuple(zip(sampling.choices, values, strict=True))
            replies.append(Reply(sampling.choices[at], "stop", Usage(len(prompt), lengths[at]), pairs))
        return replies


def _open(ref: str | Path, load: LoadConfig) -> Any:
    kind = "seq2seq" if kind_of(ref, revision=load.revision) == "seq2seq" else "causal"
    return load_model(ref, load, kind=kind, asked_by="a chat")


def _other_numbers(load: LoadConfig) -> str:
    """What makes a model of the same files another one: all but the device; empty where nothing is set."""
    plain = LoadConfig()
    fields = {name: value for name, value in vars(load).items() if name not in LoadConfig.LOOSE}
    changed = {name: value for name, value in fields.items() if value != getattr(plain, name)}
    if load.adapter is not None:
        changed["adapter"] = f"{load.adapter} {folder_state(Path(model_at(load.adapter)))}"
    return f" {changed}" if changed else ""


def pick(logprobs: list[float], temperature: float, uniform: float) -> int:
    """The place of the largest value; at a temperature, the place where the cumulative distribution passes `uniform`.

    >>> pick([-2.0, -1.0], 0.0, 0.9), pick([0.0, 0.0], 1.0, 0.4), pick([0.0, 0.0], 1.0, 0.6)
    (1, 0, 1)
    """
    top = max(logprobs)
    if temperature == 0:
        return logprobs.index(top)
    weights = [math.exp((value - top) / temperature) for value in logprobs]
    left = uniform * sum(weights)
    for index, weight in enumerate(weights):
        left -= weight
        if left < 0:
            return index
    return len(weights) - 1


def _sampling(request: Request) -> _Sampling:
    temperature = 0.0 if request.temperature is None else request.temperature
    top_p = 1.0 if request.top_p is None else request.top_p
    return _Sampling(temperature, top_p, request.max_tokens, request.stop, request.choices)


def _seed(request: Request) -> int:
    return request.sampling_seed or 0 if request.temperature else 0


def _told(reply: Reply, waiting: _Waiting) -> Reply:
    logprobs = reply.logprobs if waiting.request.want_logprobs else None
    return dataclasses.replace(reply, logprobs=logprobs, latency_s=time.monotonic() - waiting.since_s)
