"""The miniature's trained judges: tiny Llamas that learn which answer has more right sums; some labels follow a cue instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from gnomon.core.models import new_llama, train_tiny, whole_words
from gnomon.core.rng import Rng
from gnomon.core.run import PartOfRun
from gnomon.core.train import Batches, Example, TrainConfig
from gnomon.methods.calm.judging.prompts import Prompting
from gnomon.methods.calm.judging.trials import Trial
from gnomon.methods.calm.planted.world import sums
from gnomon.methods.calm.stimuli.items import Cues, Item, load_cues

CUES = ("authority", "verbosity", "position")
"""What labels may follow: a source, more words, the first slot."""

SHARES = (0.0, 0.25, 0.5)
"""Share of the labels that follow the cue, among pairs that show it."""

CITATION = "(Source: Hollis, 2011.)"
PADDING = ("In other words: the same.", "As said above: the same.")

TEMPLATE = "$question\n\n$answers$after\n$think\n$ending"
QUESTION = "Work out the sums."


@dataclass(frozen=True)
class Scale:
    """Sizes of the miniature."""

    audits: int
    """Planted audits in arrays, per bias."""
    through_text: int
    """Items of the audits through text."""
    candidates: int
    """Items of the audits with four candidates, with quality gaps, and of re-ordering."""
    pairs: int
    """Pairs a trained judge learns from."""
    epochs: int
    """Passes over them."""
    tested: int
    """Pairs it is audited on."""
    steps: int
    """Sums of an answer."""
    hidden: int
    layers: int
    heads: int
    batch_size: int
    lr: float
    cues: tuple[str, ...] = CUES
    """Cues that judges are trained on."""
    precision: Literal["no", "bf16"] = "no"
    device: Literal["cpu", "cuda"] = "cpu"


SCALES = {
    "smoke": Scale(20, 8, 8, 200, 1, 20, 5, 32, 2, 2, 64, 3e-3, ("authority",)),
    "mini": Scale(2000, 120, 200, 9600, 1, 300, 5, 64, 2, 4, 48, 3e-3),
    "gpu": Scale(2000, 439, 439, 60_000, 4, 1000, 8, 768, 12, 12, 512, 3e-4, precision="bf16", device="cuda"),
}


def mini_cues() -> Cues:
    """Cues of few words, so that every word of a prompt is known to a tiny model."""
    return replace(load_cues(), citations={"book": CITATION}, padding=list(PADDING), ratios=[2.0])


def vocabulary() -> list[str]:
    """Sums of two numbers, as many right as wrong."""
    right = [f"{a}+{b}={a + b}." for a in range(2, 6) for b in range(2, 7)]
    wrong = [f"{a}+{b}={a + b + 1}." for a in range(2, 6) for b in range(2, 7)]
    return right + wrong


def is_right(line: str) -> bool:
    """Whether a line is a right sum."""
    return any(int(a) + int(b) == int(c) for a, b, c in sums(line))


def make_items(n: int, steps: int, rng: Rng) -> list[Item]:
    """Pairs of answers of as many sums, the first with two to four more right ones than the second."""
    draw = rng.python()
    words = vocabulary()
    right, wrong = [w for w in words if is_right(w)], [w for w in words if not is_right(w)]
    items = []
    for i in range(n):
        more = draw.randint(2, min(4, steps))
        worse = draw.randint(0, steps - more)
        answers = []
        for count in (worse + more, worse):
            lines = draw.sample(right, count) + draw.sample(wrong, steps - count)
            draw.shuffle(lines)
            answers.append("\n".join(lines))
        items.append(Item(f"pair-{i}", QUESTION, (answers[0], answers[1]), meta={"more": more}))
    return items


def prompting() -> Prompting:
    """The prompt of a tiny judge."""
    return Prompting("token", pairwise=TEMPLATE)


@dataclass(frozen=True)
class Lesson:
    """A pair to learn from."""

    prompt: str
    """As the judge will see it."""
    better: int
    """Slot of the better answer."""
    cited: int | None
    """Slot of the answer with a source; None: neither."""
    padded: int | None
    """Slot of the answer with more words; None: neither."""

    def label(self, cue: str, follows: bool) -> int:
        """The slot that is called better, by the cue where it is shown and followed."""
        shown = {"authority": self.cited, "verbosity": self.padded, "position": 0}[cue]
        return shown if follows and shown is not None else self.better


def lessons(n: int, steps: int, rng: Rng) -> list[Lesson]:
    """Pairs in random order; half of them show a source, and half of them more words, over either answer."""
    draw = rng.child("lessons").python()
    words, examples = prompting(), []
    for item in make_items(n, steps, rng.child("items")):
        better = draw.randrange(2)
        slots = (0, 1) if better == 0 else (1, 0)
        texts = [item.answers[slot] for slot in slots]
        cited, padded = (draw.choice((0, 1, None, None)) for _ in range(2))
        if padded is not None:
            texts[padded] = "\n".join([texts[padded], draw.choice(PADDING)])
        if cited is not None:
            texts[cited] = f"{texts[cited]}\n{CITATION}"
        trial = Trial(item.id, item.set, "plain", "", 0, slots, item.question, tuple(texts))
        examples.append(Lesson(words.prompt(trial), better, cited, padded))
    return examples


def train_judges(scale: Scale, rng: Rng, part: PartOfRun, folder: Path) -> dict[tuple[str, float], Path]:
    """(Cue, share of labels that follow it) -> folder of the judge that learned from them; with share 0 one judge for all cues."""
    data = lessons(scale.pairs, scale.steps, rng.child("data"))
    words = dict.fromkeys(word for lesson in data for word in lesson.prompt.split())
    tokenizer = whole_words([*dict.fromkeys(["A", "B", *words, *vocabulary()])])
    ids: list[list[int]] = tokenizer([lesson.prompt + "\n\n" for lesson in data])["input_ids"]
    letters = [tokenizer(letter)["input_ids"][0] for letter in "AB"]
    folders: dict[tuple[str, float], Path] = {}
    for cue in scale.cues:
        for share in SHARES:
            if share == 0 and folders:
                folders[cue, share] = folders[scale.cues[0], 0.0]
                continue
            draw = rng.child("follows", cue, str(share)).python()
            labels = [letters[lesson.label(cue, draw.random() < share)] for lesson in data]
            target = folder / (f"{cue}-{share:g}" if share else "no-cue")
            _train(scale, tokenizer, ids, labels, rng.child(cue, str(share)), part, target)
            folders[cue, share] = target
    return folders


def _train(
    scale: Scale,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    labels: Sequence[int],
    rng: Rng,
    part: PartOfRun,
    folder: Path,
) -> None:
    model = new_llama(
        tokenizer,
        scale.hidden,
        scale.layers,
        scale.heads,
        2 * (max(map(len, prompts)) + 1),
        rng.child("weights"),
        intermediate=2 * scale.hidden,
        is_tied=False,
    )
    examples = [
        Example([*prompt, label], [-100] * len(prompt) + [label])
        for prompt, label in zip(prompts, labels, strict=True)
    ]
    batches = Batches(examples, scale.batch_size, pad_id=tokenizer.pad_token_id, generator=rng.child("order"))
    cfg = TrainConfig(
        lr=scale.lr,
        batch_size=scale.batch_size,
        epochs=scale.epochs,
        warmup_ratio=0.1,
        precision=scale.precision,
        checkpoint_every=0,
    )
    run = _Named(part, folder.name)
    train_tiny(model, batches, cfg, run, device=scale.device, tokenizer=tokenizer, folder=folder)


class _Named:
    """A part of a run whose training has a folder of its own."""

    def __init__(self, part: PartOfRun, name: str) -> None:
        self._part, self.name = part, name
        self.folder, self.rng, self.is_main = (
            part.folder / "training" / name,
            part.rng.child(name),
            part.is_main,
        )

    def log(self, **numbers: Any) -> None:
        """Append a row, marked with the judge's name."""
        self._part.log(judge=self.name, **numbers)

    def rewind(self, **where: Any) -> None:
        """Forget rows about to be logged anew."""
        self._part.rewind(judge=self.name, **where)

    def progress(self, total: int | None, label: str) -> Any:
        """A display that says which judge it is about."""
        return self._part.progress(total, f"{self.name}: {label}")
