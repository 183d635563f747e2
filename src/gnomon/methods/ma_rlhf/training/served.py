"""Rollouts that a server writes, with the policy's adapter loaded there anew after each update.

Not run on a cluster: the tests hold it against a scripted server.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib import error, request

from gnomon.core.llm import ask, complete, open_completions
from gnomon.core.models import Completion, GenConfig, save_lora
from gnomon.core.models.sampling.text import decode
from gnomon.core.rng import Rng
from gnomon.core.rollout import Task
from gnomon.errors import BadConfig, LLMFailure

LOAD, UNLOAD = "load_lora_adapter", "unload_lora_adapter"
"""Paths of a server of vLLM that takes adapters while it runs."""


class Served:
    """Writes rollouts through a server that continues texts.

    Before each rollout the policy's adapter is saved where the server can read it, and loaded there under a name of its own, so
    that no rollout is written by an earlier one. Log-probabilities are those of the policy here, whatever the server computes with.

    Args:
        endpoint: http://host:8000/v1#name of the base.
        policy: a PEFT model; its adapter is what the server lacks.
        tokenizer: of the policy.
        gen: how answers are sampled.
        folder: where adapters are saved; the server reads the same folder.

    Raises:
        BadConfig: the policy has no adapter.
    """

    def __init__(self, endpoint: str, policy: Any, tokenizer: Any, gen: GenConfig, folder: Path):
        if not hasattr(policy, "peft_config"):
            raise BadConfig("rollout: a server can take adapters alone. Train some with --train.lora-rank.")
        self.url, _, self.name = endpoint.partition("#")
        self.policy, self.tokenizer, self.gen, self.folder = policy, tokenizer, gen, folder
        self.count = 0

    def __call__(
        self, tasks: Sequence[Task], prompts: Sequence[Sequence[int]], streams: Sequence[Rng]
    ) -> list[list[Completion]]:
        """The completions of each prompt, read as the policy's tokens."""
        name = self._named(self.count)
        save_lora(self.policy, self.tokenizer, self.folder / name)
        self._post(LOAD, {"lora_name": name, "lora_path": str((self.folder / name).resolve())})
        if self.count:
            self._post(UNLOAD, {"lora_name": self._named(self.count - 1)})
        self.count += 1
        texts = [str(self.tokenizer.decode(list(ids))) for ids in prompts]
        requests = [
            ask(text, temperature=self.gen.temperature_of(k), top_p=self.gen.top_p, max_tokens=self.gen.max_new_tokens,
                draw=k, seed=rng.child("sample", k).key & (2**31 - 1))
            for text, rng in zip(texts, streams, strict=True)
            for k in range(self.gen.n)
        ]  # fmt: skip
        replies = complete(open_completions(f"{self.url}#{name}"), requests)
        rows = []
        for i, ids in enumerate(prompts):
            mine = replies[i * self.gen.n : (i + 1) * self.gen.n]
            rows.append([self._read(ids, reply) for reply in mine])
        return rows

    def _named(self, number: int) -> str:
        """The name of an adapter: a server refuses one that it has, from another process or an earlier try of this run."""
        return f"policy-{os.environ.get('RANK', '0')}-{os.getpid()}-{number}"

    def _read(self, prompt: Sequence[int], reply: Any) -> Completion:
        """A reply as tokens of the policy; one that ended by itself has the end-of-text token behind it."""
        if reply.error is not None:
            raise LLMFailure(f"The server wrote no rollout: {reply.error}")
        ids = list(self.tokenizer(reply.text, add_special_tokens=False)["input_ids"])
        is_cut = reply.finish == "length"
        if not is_cut or not ids:
            ids.append(self.tokenizer.eos_token_id)
        # No log-probabilities: a server's are not ours.
        return Completion(
            decode(self.tokenizer, prompt), reply.text, tuple(ids), (), "length" if is_cut else "eos"
        )

    def _post(self, path: str, body: dict[str, str]) -> None:
        call = request.Request(
            f"{self.url.rstrip('/')}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with request.urlopen(call, timeout=120):
                pass
        except (error.URLError, TimeoutError) as fault:
            raise LLMFailure(
                f"The server at {self.url} did not take the adapter ({path}: {fault})."
            ) from fault
