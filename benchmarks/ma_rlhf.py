"""What an update of PPO over macro actions costs, rollout included, against a plain loop and against one answer at a time.

    python benchmarks/ma_rlhf.py      writes docs/results/bench-ma-rlhf.json; with --only it runs and prints a part

One thread. A Llama of a small story model's sizes with random weights, 32 answers of 96 tokens. Times are CPU seconds, medians of
rounds in which the ways take turns; ratios are what to look at.
"""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import torch
from common.record import main
from common.timing import take_turns

from gnomon.core.models import GenConfig, new_llama, train_bpe
from gnomon.core.rng import Rng
from gnomon.core.rollout import Task
from gnomon.core.run import Run
from gnomon.core.train import TrainConfig
from gnomon.methods.ma_rlhf import Macro, Ppo, macro_gae, macro_ppo, segment

ANSWERS, TOKENS, N = 32, 96, 5
OPENINGS = ("Once upon a time there was a girl.", "One day a boy went out.", "There was a big dog.")


def world() -> tuple[Any, Any]:
    """Policy and tokenizer; no way writes the end of a text."""
    words = train_bpe(OPENINGS * 3, 300)
    model = new_llama(words, 64, 5, 8, 512, Rng(0), intermediate=172, is_tied=False)
    return model.eval(), words


def reward(prompts: list[str], completions: list[str]) -> list[float]:
    """Vowels, which costs nothing to count."""
    return [sum(text.count(letter) for letter in "aeiou") / 10 for text in completions]


def ours(updates: int) -> Any:
    """`updates` updates by the room."""
    model, words = world()
    tasks = [Task(str(i), text) for i, text in enumerate(OPENINGS)]
    train = TrainConfig(
        lr=2e-4,
        batch_size=ANSWERS,
        max_length=160,
        epochs=updates * 99,
        max_steps=updates,
        weight_decay=0.0,
        checkpoint_every=0,
    )
    gen = GenConfig(
        max_new_tokens=TOKENS, batch_size=ANSWERS, banned=(words.eos_token_id,)
    )  # all answers are whole
    ppo = Ppo(gen=gen)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder) / "run", method="ma-rlhf", verb="train", quiet=True)
        trained = macro_ppo(model, words, tasks, reward, macro=Macro(n=N), ppo=ppo, train=train, run=run)
        run.close()
    return trained.rows


def plain(updates: int) -> None:
    """The loop that one writes first: transformers' generate, full logits of policy, reference and policy again."""
    _loop(updates, ANSWERS)


def single(updates: int) -> None:
    """One answer at a time, and lists of Python for segments and advantages."""
    _loop(updates, 1)


def _loop(updates: int, size: int) -> None:
    policy, words = world()
    reference, critic = copy.deepcopy(policy), copy.deepcopy(policy.model)
    head = torch.nn.Linear(64, 1, bias=False)
    optimizer = torch.optim.AdamW([*policy.parameters(), *critic.parameters(), *head.parameters()], lr=2e-4)
    words.padding_side = "left"
    for update in range(updates):
        torch.manual_seed(update)
        for start in range(0, ANSWERS, size):
            batch = words(
                [OPENINGS[i % 3] for i in range(start, start + size)], return_tensors="pt", padding=True
            )
            width = batch["input_ids"].shape[1]
            with torch.no_grad():
                ids = policy.generate(
                    **batch, max_new_tokens=TOKENS, do_sample=True, top_k=0, pad_token_id=words.pad_token_id,
                    suppress_tokens=[words.eos_token_id],
                )  # fmt: skip
            mask = torch.cat(
                [batch["attention_mask"], torch.ones(len(ids), ids.shape[1] - width, dtype=torch.long)], 1
            )
            texts = words.batch_decode(ids[:, width:])
            worth = torch.tensor(reward([""] * len(texts), texts))

            def logprobs(
                model: Any, ids: torch.Tensor = ids, mask: torch.Tensor = mask, width: int = width
            ) -> torch.Tensor:
                logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float().log_softmax(-1)
                return logits.gather(-1, ids[:, 1:, None]).squeeze(-1)[:, width - 1 :]

            def values(
                ids: torch.Tensor = ids, mask: torch.Tensor = mask, width: int = width
            ) -> torch.Tensor:
                return head(critic(input_ids=ids, attention_mask=mask).last_hidden_state).squeeze(-1)[
                    :, width - 1 : -1
                ]

            with torch.no_grad():
                old, ref, before = logprobs(policy), logprobs(reference), values()
            rewards = -0.05 * (old - ref)
            rewards[:, -1] += worth
            if size == 1:
                advantages, returns = _by_lists(before[0].tolist(), rewards[0].tolist())
            else:
                segments = segment(torch.ones_like(old, dtype=torch.bool), Macro(n=N))
                advantages, returns = macro_gae(before, rewards, segments, Macro(n=N))
            ratio = (logprobs(policy) - old).exp()
            policy_loss = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(0.8, 1.2)).mean()
            loss = (policy_loss + 0.5 * ((values() - returns) ** 2).mean()) * size / ANSWERS
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def _by_lists(values: list[float], rewards: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    starts = list(range(0, len(values), N))
    pieces = [(s, min(s + N, len(values))) for s in starts]
    means = [sum(values[a:b]) / (b - a) for a, b in pieces]
    advantages, returns, last, following = [], [], 0.0, 0.0
    for (a, b), value in reversed(list(zip(pieces, means, strict=True))):
        last = sum(rewards[a:b]) + following - value + 0.95 * last
        following = value
        advantages = [last] * (b - a) + advantages
        returns = [last + value] * (b - a) + returns
    return torch.tensor([advantages]), torch.tensor([returns])


def updates() -> dict[str, Any]:
    """Two updates of each way, one of the slowest; what is loaded and built beside them is in all three."""
    rows = ours(2)  # warm, and how long answers are
    tokens = sum(row["answer_tokens"] for row in rows) * ANSWERS
    seconds = take_turns(
        {"ours": lambda: ours(2), "plain loop": lambda: plain(2), "one at a time": lambda: single(2)}, 3
    )
    rates = {
        "ours": tokens / seconds["ours"],
        "plain loop": 2 * ANSWERS * TOKENS / seconds["plain loop"],
        "one at a time": ANSWERS * TOKENS / seconds["one at a time"],
    }
    return {
        "cpu_seconds": seconds,
        "tokens_per_cpu_second": rates,
        "times_the_plain_loop": rates["ours"] / rates["plain loop"],
        "times_one_at_a_time": rates["ours"] / rates["one at a time"],
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    raise SystemExit(main("ma-rlhf", __doc__, {"updates": updates}))
