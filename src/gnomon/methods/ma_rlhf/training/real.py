"""The real run: a small story model that somebody else trained learns to write friendly words."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from gnomon.core.models import GenConfig, load_model, load_tokenizer
from gnomon.core.records import read_raw
from gnomon.core.rollout import Sample, Task
from gnomon.core.run import PartOfRun
from gnomon.core.study import Out, Part, Study
from gnomon.core.train import TrainConfig
from gnomon.methods.ma_rlhf import report
from gnomon.methods.ma_rlhf.config import REAL_CLAIMS, Real
from gnomon.methods.ma_rlhf.options import Macro, Ppo, matched_lambda
from gnomon.methods.ma_rlhf.training.evaluation import mean_of_last
from gnomon.methods.ma_rlhf.training.ppo import macro_ppo

OPENINGS = (
    "Once upon a time, there was a little girl named Lily.",
    "One day, a boy named Tim went to the park.",
    "There was a big dog who lived in a small house.",
)

# fmt: off
FRIENDLY = frozenset((
    "happy", "love", "loved", "nice", "kind", "friend", "friends", "smile", "smiled", "fun", "good", "hug", "hugged", "help",
    "helped", "share", "shared", "play", "played", "laugh", "laughed", "thank", "sweet", "joy", "warm", "gentle", "together",
))
# fmt: on
"""27 words; the reward is their share."""

CENTRE, SPREAD = 0.06, 0.04
"""What the share of friendly words is measured from, and in."""

ARMS: Mapping[str, Macro] = {
    "n=1": Macro(n=1),
    "n=5": Macro(n=5),
    "matched": Macro(n=1, lam=matched_lambda(0.95, 5)),
    "n=inf": Macro(n=None),
    "n=5, critic's lambda 1": Macro(n=5, lam_critic=1.0),
    "chunks": Macro(rule="chunks"),
    "surprise": Macro(rule="surprise"),
}


LATE = ("log_ratio_answer", "kl", "distinct", "cut_share", "macro_size", "explained_variance")
"""What is shown of the last updates."""


@dataclass(frozen=True)
class Scale:
    """Sizes of the real run."""

    updates: int = 30
    rollouts: int = 32
    answer: int = 96
    arms: tuple[str, ...] = tuple(ARMS)
    device: str = "cpu"


SCALES: Mapping[str, Scale] = {
    "smoke": Scale(updates=2, rollouts=6, answer=8, arms=("n=1", "n=5", "matched", "chunks")),
    "mini": Scale(),
    "gpu": Scale(updates=60, rollouts=256, device="cuda"),
}


def study(cfg: Real) -> Study:
    """The study on the model that the settings name."""
    return Study(
        title="ma-rlhf on a real story model",
        claims=REAL_CLAIMS,
        scales=SCALES,
        parts={"": Part(partial(_seed, cfg))},
        plan=lambda cfg, scale: {"arms": len(scale.arms) * cfg.seeds, "updates_each": scale.updates},
        page=report.write_real,
        summary=lambda results: {
            "arms": results.rows["arms"], "answers": results.rows["answers"], "scores": results.scores(),
            "curves": results.rows["curves"],
        },
    )  # fmt: skip


def share_friendly(text: str) -> float:
    """Share of a text's words that are friendly; 0 without words."""
    words = re.findall(r"[a-z']+", text.lower())
    return sum(word in FRIENDLY for word in words) / max(1, len(words))


def reward(samples: Sequence[Sample]) -> list[float]:
    """The share of friendly words, centred; `Ppo` clips it at 2.5."""
    return [(share_friendly(s.completion) - CENTRE) / SPREAD for s in samples]


def _seed(cfg: Real, scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """All arms of a seed, from the same start on the same prompts and streams."""
    model = load_model(cfg.model, device=scale.device, asked_by="ma-rlhf real")
    words = load_tokenizer(cfg.model)
    openings = [Task(str(i), text) for i, text in enumerate(OPENINGS)]
    ppo = Ppo(
        gen=GenConfig(max_new_tokens=scale.answer, n=1, batch_size=scale.rollouts),
        beta=0.02,
        reward_clip=2.5,
        critic_lr=2e-3,
    )
    train = TrainConfig(
        lr=2e-4, batch_size=scale.rollouts, max_length=scale.answer + 64, epochs=scale.updates, max_steps=scale.updates,
        schedule="constant", weight_decay=0.0, checkpoint_every=15, keep_checkpoints=1,
    )  # fmt: skip
    curves = {}
    for name in scale.arms:
        inner = part.within(re.sub(r"[^a-z0-9]+", "-", name.lower()), part.rng.child("arms"))
        trained = macro_ppo(
            copy.deepcopy(model), words, openings, reward, macro=ARMS[name], ppo=ppo, train=train, run=inner
        )
        curves[name] = [{**row, "friendly": CENTRE + SPREAD * row["reward"]} for row in trained.rows]
        for _, kept in list(read_raw(trained.answers))[-3:]:
            out.add("answers", {"arm": name, "reward": kept["reward"], "text": kept["text"]})
        if name in ("n=1", "n=5"):
            out.show(f"answers {name}", trained.answers)
    late = min(6, scale.updates)
    level = min(mean_of_last(rows, "log_ratio_answer", late) for rows in curves.values())
    for name, rows in curves.items():
        middle = rows[10:16] or rows
        final = mean_of_last(rows, "friendly", late)
        equal = at_log_ratio(rows, level)
        out.score(name, "friendly words, last updates", final)
        out.score(name, "friendly words at equal log-ratio", equal)
        out.add("arms", {
            "arm": name,
            "first 3": sum(row["friendly"] for row in rows[:3]) / len(rows[:3]),
            "updates 11-16": sum(row["friendly"] for row in middle) / len(middle),
            "last 6": final,
            "at equal log-ratio": equal,
            "that log-ratio": level,
            **{key: mean_of_last(rows, key, late) for key in LATE},
            "rollout_gap": max(row["rollout_gap"] for row in rows),
        })  # fmt: skip
        for row in rows:
            out.add(
                "curves",
                {
                    "arm": name,
                    **{key: row[key] for key in ("step", "friendly", "log_ratio_answer", "distinct")},
                },
            )


def at_log_ratio(rows: Sequence[Mapping[str, float]], level: float, width: int = 3) -> float:
    """The share of friendly words where the mean log-ratio of an answer, smoothed, first passes a level.

    Args:
        rows: of the updates, in order.
        level: nats an answer.
        width: updates of a mean.
    """

    def smooth(name: str) -> list[float]:
        return [
            sum(row[name] for row in rows[max(0, i - width + 1) : i + 1]) / min(i + 1, width)
            for i in range(len(rows))
        ]

    ratios, shares = smooth("log_ratio_answer"), smooth("friendly")
    for i in range(1, len(rows)):
        if ratios[i] >= level:
            rise = ratios[i] - ratios[i - 1]
            weight = (level - ratios[i - 1]) / rise if rise > 0 else 1.0
            return shares[i - 1] + min(max(weight, 0.0), 1.0) * (shares[i] - shares[i - 1])
    return shares[-1]
