"""The miniature's backbones: a small model that has read one domain only, and the texts of that domain and of a new one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from gnomon.core.models import load_model, load_tokenizer, new_llama, train_bpe
from gnomon.core.run import PartOfRun
from gnomon.core.train import TrainConfig, causal_loss, fit
from gnomon.errors import BadConfig
from gnomon.methods.neutral_residues.config import Pair
from gnomon.methods.neutral_residues.mini import texts as mini_texts
from gnomon.methods.neutral_residues.mini.texts import Texts
from gnomon.methods.neutral_residues.training.data import Corpus, pack
from gnomon.methods.neutral_residues.training.mixing import Mixture


@dataclass(frozen=True)
class Scale:
    """How large the miniature is."""

    hidden: int
    layers: int
    heads: int
    length: int
    """Tokens a row."""
    vocab: int
    """Tokens of the vocabulary; 259 are bytes alone."""
    base_steps: int
    base_lr: float
    steps: int
    """Steps of each extension."""
    batch_size: int
    held_bytes: int
    """Bytes of each domain to measure on."""
    alpha: float
    lr: dict[str, tuple[float, ...]]
    """Peak learning rates by arm."""
    documents: int = 0
    """Documents of each made-up language, or samples of a checkpoint."""
    files: int | None = None
    """Files of the standard library; None for all."""
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["no", "bf16"] = "no"


_RATES = {
    "neutral": (1e-3, 2e-3, 4e-3),
    "no gate + l1": (1e-3, 2e-3, 4e-3),
    "adapter": (2e-4, 4e-4, 8e-4, 2e-3),
    "lora": (4e-4, 8e-4, 2e-3),
    "full": (5e-5, 2e-4, 1e-3),
}

_SMOKE = Scale(
    32, 2, 2, 32, 259, 6, 3e-3, 4, 4, 3_000, 1.0, dict.fromkeys(_RATES, (1e-3, 4e-3)) | {"full": (1e-3,)},
    documents=120, files=60,
)  # fmt: skip
_SOURCE = Scale(128, 4, 4, 128, 259, 300, 3e-3, 100, 16, 73_000, 1.0, _RATES)
_GPU = Scale(
    768, 12, 12, 512, 16_000, 900, 6e-4, 300, 64, 500_000, 1.0,
    {name: tuple(lr / 4 for lr in rates) for name, rates in _RATES.items()}, device="cuda", precision="bf16",
)  # fmt: skip

SCALES: dict[str, dict[Pair, Scale]] = {
    "smoke": dict.fromkeys(("source", "languages", "samples"), _SMOKE),
    "mini": {
        "source": _SOURCE,
        "languages": replace(_SOURCE, hidden=96, layers=3, vocab=400, documents=3_000, held_bytes=40_000),
        "samples": replace(_SOURCE, documents=768, held_bytes=40_000),
    },
    "gpu": {
        "source": _GPU,
        "languages": replace(_GPU, vocab=2_000, documents=60_000),
        "samples": replace(_GPU, documents=4_096, lr=_RATES),
    },
}


@dataclass(frozen=True)
class World:
    """A model that has read one domain, and texts of that and of a new one."""

    model: Any
    tokenizer: Any
    old: Corpus
    """Text that stands for what the model has read, from another source where there is one, and what forgetting is measured on."""
    new: Corpus
    """The domain to learn."""
    about: str
    """What the domains are, in a sentence or two."""


def world(
    pair: Pair, scale: Scale, part: PartOfRun, *, checkpoint: str | None = None, tuning: bool = False
) -> World:
    """Texts and backbone of one seed; the model is trained, or read back from an interrupted run.

    Args:
        pair: the two domains.
        scale: sizes.
        part: the seed's part of the run.
        checkpoint: the backbone of `samples`.
        tuning: measure on what is there for choosing settings.
    """
    if pair == "samples":
        if checkpoint is None:
            raise BadConfig("The pair samples needs a pretrained model: name it with --checkpoint.")
        model = load_model(checkpoint, device=scale.device, asked_by="neutral-residues mini")
        tokenizer = load_tokenizer(checkpoint)
        sizes = (scale.documents, scale.length, scale.held_bytes)
        texts = mini_texts.samples(model, tokenizer, *sizes, part.rng, tuning=tuning)
        return _packed(model, tokenizer, texts)
    make: dict[str, Callable[[], Texts]] = {
        "source": lambda: mini_texts.source(scale.held_bytes, files=scale.files, tuning=tuning),
        "languages": lambda: mini_texts.languages(scale.documents, scale.held_bytes, part.rng, tuning=tuning),
    }
    texts = make[pair]()
    tokenizer = train_bpe(texts.read[::7], scale.vocab)
    return _packed(_backbone(scale, tokenizer, texts.read, part), tokenizer, texts)


def _packed(model: Any, tokenizer: Any, texts: Texts) -> World:
    old, new = (
        Corpus(pack(train, tokenizer), pack(held, tokenizer))
        for train, held in ((texts.mixed, texts.held), (texts.new, texts.new_held))
    )
    return World(model.eval(), tokenizer, old, new, texts.about)


def _backbone(scale: Scale, tokenizer: Any, texts: list[str], part: PartOfRun) -> Any:
    cfg = TrainConfig(
        lr=scale.base_lr,
        batch_size=scale.batch_size,
        max_steps=scale.base_steps,
        epochs=1_000,
        max_length=scale.length,
        schedule="cosine",
        warmup_ratio=0.1,
        precision=scale.precision,
        checkpoint_every=0,
    )
    model = new_llama(
        tokenizer,
        hidden=scale.hidden,
        layers=scale.layers,
        heads=scale.heads,
        max_length=scale.length,
        generator=part.rng.child("model"),
    ).to(scale.device)
    rows = pack(texts, tokenizer).rows(scale.length)
    batches = Mixture(rows, None, 0.0, scale.batch_size, generator=part.rng.child("base"))
    fit(model, batches, lambda m, batch: causal_loss(m, _plain(batch)), cfg, run=part)
    return model


def _plain(batch: Any) -> dict[str, Any]:
    return {name: batch[name] for name in ("input_ids", "labels")}
