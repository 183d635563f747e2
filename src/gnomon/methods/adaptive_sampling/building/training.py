"""Training of self-evaluation: cross-entropy of two logits behind answers and their beginnings, and an anchor on all others."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from gnomon.core.config import check
from gnomon.core.models.architectures.parts import base_of
from gnomon.core.models.sampling.cache import new_cache
from gnomon.core.rng import Rng
from gnomon.core.train import TrainConfig, fit
from gnomon.core.train.batches import GlobalBatch, Order
from gnomon.core.train.loop import History, TrainRun
from gnomon.errors import BadInput
from gnomon.methods.adaptive_sampling.evaluator.carriers import Carrier
from gnomon.methods.adaptive_sampling.evaluator.evaluator import SelfEvaluator

Anchor = Literal["kl", "lm", "none"]

AGREE = 1e-4
"""By how much a packed pass may differ from separate rows, relative to the largest logit."""


@dataclass(frozen=True)
class Answer:
    """An answer to learn from."""

    prompt: tuple[int, ...]
    ids: tuple[int, ...]
    """As sampled."""
    cuts: tuple[int, ...]
    """Lengths at which it is judged; its own length: as a whole."""
    label: float
    weight: float = 1.0
    is_finished: bool = True
    """Whether the whole ended by itself, and not for want of room."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Answer:
        """A row of training data.

        Raises:
            BadInput: a field is missing or out of range.
        """
        try:
            answer = cls(
                tuple(row["prompt_ids"]), tuple(row["response_ids"]), tuple(row["prefix_tokens"]), float(row["label"]),
                float(row.get("weight", 1)), bool(row.get("is_finished", True)),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(
                f'Row "{row.get("id")}" is no training row of `adaptive-sampling build`: {error!r}.'
            ) from None
        if not (answer.prompt and 0 <= answer.label <= 1 and answer.weight > 0 and answer.cuts):
            raise BadInput(
                f'Row "{row.get("id")}": a label lies in 0..1, a weight above 0, and prompt and cuts are not empty.'
            )
        if not all(1 <= cut <= len(answer.ids) for cut in answer.cuts):
            raise BadInput(
                f'Row "{row.get("id")}": prefix_tokens must lie in 1..{len(answer.ids)}, the tokens of its answer.'
            )
        return answer


@dataclass(frozen=True)
class _Row:
    """Tokens that are read together."""

    ids: tuple[int, ...]
    positions: tuple[int, ...]
    base: int
    """Tokens of prompt and answer; what follows are questions."""
    behind: tuple[tuple[int, int, int], ...]
    """Of each question: tokens of the base that it sees, its first token and the one behind its last."""
    read: tuple[int, ...]
    """Tokens behind which c is read."""
    weights: tuple[float, ...]
    label: float
    anchored: tuple[int, int]
    """First token of the answer, and the one behind its last, that the anchor holds; empty where another row does."""


def _rows(answer: Answer, carrier: Carrier, is_packed: bool) -> Iterator[_Row]:
    """An answer as one packed row, or as a row for each cut."""
    p = len(answer.prompt)
    if carrier.kind == "reserved":  # every token of the answer, in one ordinary pass
        kept, _ = carrier.layout(answer.ids, is_finished=True)
        n = max(kept, 1)
        ids = (*answer.prompt, *answer.ids)
        everywhere = tuple(range(p, p + n))
        shares = (answer.weight / n,) * n
        yield _Row(ids, tuple(range(len(ids))), len(ids), (), everywhere, shares, answer.label, (p, len(ids)))
        return
    questions = []
    for cut in answer.cuts:
        kept, suffix = carrier.layout(
            answer.ids[:cut], is_finished=cut == len(answer.ids) and answer.is_finished
        )
        questions.append((kept, suffix))
    share = answer.weight / len(questions)
    longest = max(kept for kept, _ in questions)
    if not is_packed:
        for kept, suffix in questions:
            ids = (*answer.prompt, *answer.ids[:kept], *suffix)
            held = (p, p + kept) if kept == longest else (p, p)
            longest = -1 if kept == longest else longest  # the anchor counts once
            yield _Row(
                ids, tuple(range(len(ids))), p + kept, (), (len(ids) - 1,), (share,), answer.label, held
            )
        return
    packed = [*answer.prompt, *answer.ids[:longest]]
    base, positions = len(packed), list(range(len(packed)))
    behind: list[tuple[int, int, int]] = []
    read: list[int] = []
    for kept, suffix in questions:
        behind.append((p + kept, len(packed), len(packed) + len(suffix)))
        positions += range(
            p + kept, p + kept + len(suffix)
        )  # as if nothing stood between the cut and the question
        packed += suffix
        read.append(len(packed) - 1)
    yield _Row(
        tuple(packed),
        tuple(positions),
        base,
        tuple(behind),
        tuple(read),
        (share,) * len(read),
        answer.label,
        (p, base),
    )


def _collate(rows: Sequence[_Row], pad_id: int, is_packed: bool, dtype: torch.dtype) -> dict[str, Tensor]:
    width, most = max(len(row.ids) for row in rows), max(len(row.read) for row in rows)
    ids = torch.tensor([[*row.ids, *[pad_id] * (width - len(row.ids))] for row in rows])
    labels = torch.full((len(rows), width), -100)
    read = torch.full((len(rows), most), -1)
    weights = torch.zeros(len(rows), most)
    targets = torch.tensor([row.label for row in rows])
    for i, row in enumerate(rows):
        first, end = row.anchored
        labels[i, first:end] = ids[i, first:end]
        read[i, : len(row.read)] = torch.tensor(row.read)
        weights[i, : len(row.read)] = torch.tensor(row.weights)
    batch = {"input_ids": ids, "labels": labels, "read": read, "weights": weights, "targets": targets}
    if not is_packed:
        batch["attention_mask"] = torch.tensor(
            [[1] * len(row.ids) + [0] * (width - len(row.ids)) for row in rows]
        )
        return batch
    positions = [[*row.positions, *[0] * (width - len(row.ids))] for row in rows]
    batch["position_ids"] = torch.tensor(positions)
    sees = torch.ones(width, width, dtype=torch.bool).tril().repeat(len(rows), 1, 1)  # [B, from, to]
    for i, row in enumerate(rows):
        for seen, first, end in row.behind:  # its prefix and itself, and no other question
            sees[i, first:end, seen:first] = False
        sees[i, len(row.ids) :, 1:] = False  # padding sees something, or its softmax has nothing to sum
    low = torch.finfo(dtype).min
    batch["attention_mask"] = torch.zeros(sees.shape, dtype=dtype).masked_fill(~sees, low)[:, None]
    return batch


class AnswerBatches:
    """Batches of answers with their beginnings, shuffled anew for each epoch.

    Args:
        answers: what is learnt from.
        carrier: where c is read.
        batch_size: answers a step.
        pad_id: fills the right of shorter rows.
        generator: names the shuffles.
        is_packed: all questions of an answer in one row, each of which sees its beginning and itself alone; else a row each.
        dtype: of the mask of packed rows, the model's.
        micro_batch_size: answers at once; None: a process's whole share.
    """

    def __init__(
        self,
        answers: Sequence[Answer],
        carrier: Carrier,
        batch_size: int,
        *,
        pad_id: int,
        generator: Rng,
        is_packed: bool,
        dtype: torch.dtype = torch.float32,
        micro_batch_size: int | None = None,
    ):
        if not answers:
            raise BadInput("There is no answer to learn from.")
        self.answers, self.carrier, self.pad_id = answers, carrier, pad_id
        self.is_packed, self.dtype, self.micro_batch_size = is_packed, dtype, micro_batch_size
        self._order = Order(len(answers), batch_size, generator)

    def __len__(self) -> int:
        return len(self._order)

    def at(self, step: int, process: int = 0, processes: int = 1) -> GlobalBatch:
        """The share of `process` in the batch of `step`."""
        chosen = sorted(self._order.at(step), key=lambda i: (len(self.answers[i].ids), i))
        answers = [self.answers[i] for i in chosen]
        share = -(-len(answers) // processes)
        mine = answers[process::processes]
        # Every process computes equally many; a process that is short repeats an answer that counts nothing.
        blank = Answer(answers[-1].prompt, answers[-1].ids, answers[-1].cuts, 0.0, 0.0)
        mine = [*mine, *[blank] * (share - len(mine))]
        size = self.micro_batch_size or share
        micro = [self._collated(mine[start : start + size]) for start in range(0, share, size)]
        tokens = sum(len(answer.prompt) + len(answer.ids) for answer in answers)
        return GlobalBatch(micro, len(answers), tokens)

    def _collated(self, answers: Sequence[Answer]) -> dict[str, Tensor]:
        is_packed = self.is_packed and self.carrier.kind != "reserved"
        rows = [row for answer in answers for row in _rows(answer, self.carrier, is_packed)]
        batch = _collate(rows, self.pad_id, is_packed, self.dtype)
        counts = (batch["weights"].sum(1) > 0).long()[:, None]
        batch["labels"] = torch.where(counts > 0, batch["labels"], -100)
        return batch


@torch.no_grad()
def packs_questions(model: Any) -> bool:
    """Whether a model reads several questions in one row as it reads each alone.

    It takes a mask of four dimensions, has positions, and no sliding windows.
    """
    base = base_of(model)
    if any(getattr(layer, "is_sliding", False) for layer in new_cache(base).layers):
        return False
    words = base.config.get_text_config().vocab_size
    ids = tuple((3 + 7 * i) % words for i in range(9))
    carrier = Carrier("token", 0, 1, (), (ids[8],), (ids[8],))
    answer = Answer(ids[:3], ids[3:8], (2, 5), 0.5)
    was_training = model.training
    model.eval()
    try:
        logits = []
        for is_packed in (True, False):
            rows = list(_rows(answer, carrier, is_packed))
            batch = {k: v.to(base.device) for k, v in _collate(rows, 0, is_packed, base.dtype).items()}
            output = model(**_inputs(batch), use_cache=False).logits
            logits.append(torch.cat([output[i, list(row.read)] for i, row in enumerate(rows)]).float())
    except (TypeError, ValueError, RuntimeError, IndexError):  # it was not made for such masks
        return False
    finally:
        model.train(was_training)
    tolerance = AGREE if base.dtype == torch.float32 else 0.05
    return bool(torch.allclose(logits[0], logits[1], rtol=0, atol=tolerance * float(logits[1].abs().max())))


def _inputs(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: batch[name] for name in ("input_ids", "attention_mask", "position_ids") if name in batch}


class SelfEvalLoss:
    """Two-class cross-entropy of c, and the anchor that keeps the model's answers as they are.

    Args:
        carrier: where c is read.
        anchor: kl: KL(before || now) over all other ids at the answer's tokens; lm: the likelihood of the answers, which is the
            same but for a constant where they were sampled at temperature 1; none.
        weight: of the anchor, a mean over tokens.
        before: the model before training, frozen, for kl; None: the model with its adapters off.

    Source: step 5.
    """

    def __init__(self, carrier: Carrier, anchor: Anchor = "kl", weight: float = 1.0, before: Any = None):
        self.carrier, self.anchor, self.weight, self.before = carrier, anchor, weight, before
        self.references = [] if before is None or hasattr(before, "disable_adapter") else [before]

    def __call__(self, model: Any, batch: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """Summed over the answers of a micro-batch: weighted cross-entropy, a mean over an answer's cuts, plus the anchor."""
        logits = model(**_inputs(batch), use_cache=False).logits.float()
        total = self._asked(logits, batch)
        if self.anchor == "none" or self.weight == 0:
            return total
        is_held = batch["labels"][:, 1:] != -100  # [B, T-1], of tokens that are predicted
        per_row = is_held.sum(1).clamp(min=1)[:, None].expand_as(is_held)[is_held]
        now = self._others(logits[:, :-1][is_held])
        if self.anchor == "lm":
            cost = -now.gather(-1, batch["labels"][:, 1:][is_held][:, None]).squeeze(-1)
        else:
            was = self._others(self._before(model, batch)[:, :-1][is_held])
            finite = was > -torch.inf
            cost = (was.exp() * (was - now)).where(finite, 0.0).sum(-1)
        return total + self.weight * (cost / per_row).sum()

    def _asked(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        rows, columns = (batch["read"] >= 0).nonzero(as_tuple=True)
        pair = logits[rows, batch["read"][rows, columns]][:, [self.carrier.no, self.carrier.yes]]
        logprobs = pair.log_softmax(-1)
        target = batch["targets"][rows]
        losses = -(target * logprobs[:, 0] + (1 - target) * logprobs[:, 1])
        return (losses * batch["weights"][rows, columns]).sum()

    def _others(self, logits: Tensor) -> Tensor:
        """Log-probabilities over all ids but those of the question."""
        banned = self.carrier.banned
        if banned:
            index = torch.tensor(banned, device=logits.device)
            logits = logits.index_fill(-1, index, -torch.inf)
        return logits.log_softmax(-1)

    @torch.no_grad()
    def _before(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        before = self.before
        was_training = before.training
        before.eval()
        with before.disable_adapter() if hasattr(before, "disable_adapter") else nullcontext():
            logits: Tensor = before(**_inputs(batch), use_cache=False).logits.float()
        before.train(was_training)
        return logits


@dataclass(frozen=True)
class Learning:
    """How self-evaluation is learnt."""

    anchor: Anchor = "kl"
    """kl: stay near the model's own distribution over answers; lm: likelihood of the sampled answers; none."""
    anchor_weight: float = 1.0
    """Of the anchor against the cross-entropy of c."""
    packing: bool = True
    """All questions behind an answer in one pass, where the model can; else a row each. The result is the same."""

    def __post_init__(self) -> None:
        check(self.anchor in ("kl", "lm", "none"), "anchor", "kl, lm or none", self.anchor)
        check(0 <= self.anchor_weight < float("inf"), "anchor_weight", ">= 0", self.anchor_weight)


def train_selfeval(
    evaluator: SelfEvaluator,
    answers: Sequence[Answer],
    cfg: TrainConfig,
    learning: Learning,
    *,
    run: TrainRun,
    pad_id: int,
) -> tuple[History, bool]:
    """Train an evaluator's model in place; whether questions were packed.

    Args:
        evaluator: model, tokenizer and carrier; with adapters these alone are trained, else all weights.
        answers: what is learnt from.
        cfg: the training; `max_length` is no cut here: a longer row is an error.
        learning: the anchor and packing.
        run: folder, random numbers and log.
        pad_id: fills rows.

    Raises:
        BadInput: an answer is longer than `cfg.max_length` with the question behind it.
    """
    model, carrier = evaluator.model, evaluator.carrier
    longest = max(len(a.prompt) + len(a.ids) for a in answers) + carrier.longest
    evaluator.check_room([longest])
    if longest > cfg.max_length:
        raise BadInput(
            f"The longest answer takes {longest} tokens with prompt and question, and train.max_length is {cfg.max_length}. An "
            "answer that is cut would get another label; raise it, or leave long rows out."
        )
    is_packed = learning.packing and carrier.kind != "reserved" and packs_questions(model)
    batches = AnswerBatches(
        answers, carrier, cfg.batch_size, pad_id=pad_id, generator=run.rng.child("answers"), is_packed=is_packed,
        dtype=base_of(model).dtype, micro_batch_size=cfg.micro_batch_size,
    )  # fmt: skip
    before = None
    if learning.anchor == "kl" and learning.anchor_weight:
        before = model if hasattr(model, "disable_adapter") else copy.deepcopy(model).requires_grad_(False)
    loss = SelfEvalLoss(carrier, learning.anchor, learning.anchor_weight, before)
    return fit(model, batches, loss, cfg, run=run), is_packed
