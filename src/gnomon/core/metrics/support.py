"""How far a source supports what a text says.

`token_support` needs no model; it is a stand-in and is named as one wherever it is reported. `SupportScorer` asks a checkpoint:
that of AlignScore, or any classifier of natural-language inference.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from gnomon.core.env import device_for
from gnomon.core.text import sentences, stemmer, stopwords
from gnomon.errors import BadInput, ModelMismatch

CHUNK_WORDS = 350
"""Words of the source that are read at once."""

_WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
_HEADS = {"tri_layer.weight", "tri_layer.bias"}


def token_support(prediction: str, source: str, *, language: str = "english") -> float:
    """Share of the prediction's distinct content words and numbers that the source has too; NaN when it has none.

    Words are compared by their stems, numbers as they are written, thousands separators aside. It sees invented names and figures,
    and neither negations nor facts put together wrongly.

    >>> token_support("The council met 12 times", "Councils met 12 times"), token_support("It is", "It is")
    (1.0, nan)
    >>> token_support("12 councils and 30 mayors", "12 councils")
    0.5
    """
    words = content(prediction, language=language)
    return len(words & content(source, language=language)) / len(words) if words else math.nan


def content(text: str, *, language: str = "english") -> frozenset[str]:
    """The stems of a text's content words, and its numbers.

    >>> sorted(content("The meetings cost 1,200.50 dollars"))
    ['1200.50', 'cost', 'dollar', 'meet']
    """
    stop, stem = stopwords(language), stemmer(language)
    words = (word.lower().replace("\u2019", "'") for word in _WORD.findall(text))
    return frozenset(
        word.replace(",", "") if word[0].isdigit() else stem(word.removesuffix("'s"))
        for word in words
        if word not in stop
    )


class SupportScorer:
    """Scores how well a source supports a text with a checkpoint that reads pairs of (source, claim).

    The source is cut into chunks of about 350 words at the ends of sentences, the text into sentences; a sentence has the score of
    the chunk that supports it best, and the text the mean over its sentences (AlignScore's mode `nli_sp`).

    Args:
        ref: a folder or hub id. AlignScore's checkpoint as a folder: the encoder's `config.json` and tokenizer, and its weights in
            `model.safetensors` under their own names (`base_model.*`, `tri_layer.*`; see `align_score_folder`). Else a
            sequence classifier one of whose labels names entailment.
        device: where it runs; `"auto"` takes a GPU when there is one.
        batch_size: pairs read at once.

    Raises:
        BadInput: nothing can be loaded from `ref`.
        ModelMismatch: the classifier has no label of entailment.
    Source: Zha et al., "AlignScore" (2023).
    """

    def __init__(self, ref: str | Path, *, device: str = "auto", batch_size: int = 16):
        from gnomon.core.models import load_tokenizer
        from gnomon.core.models.load import model_at

        name, ref = Path(ref).name, model_at(ref)
        self.is_align_score = is_align_score(ref)
        self.name = "AlignScore" if self.is_align_score else f"NLI {name}"
        self.tokenizer = load_tokenizer(ref)
        self.device = device_for(device)
        self.batch_size = batch_size
        load = _load_align_score if self.is_align_score else _load_classifier
        self._forward, self.place, self.length = load(ref, self.device)

    def score(self, prediction: str, source: str) -> float:
        """Support of `prediction`, 0..1; NaN when it says nothing."""
        return self.score_many([prediction], [source])[0]

    def score_many(self, predictions: Sequence[str], sources: Sequence[str]) -> list[float]:
        """Support of each prediction by its own source, 0..1, [N]; NaN where it says nothing."""
        pairs: list[tuple[str, str]] = []
        shapes: list[tuple[int, int]] = []  # claims and chunks of each row
        for prediction, source in zip(predictions, sources, strict=True):
            claims = [prediction[a:b] for a, b in sentences(prediction)]
            pieces = chunks(source)
            shapes.append((len(claims), len(pieces)))
            pairs += [(piece, claim) for claim in claims for piece in pieces]
        scores = self._score_pairs(pairs)
        supports, start = [], 0
        for n_claims, n_pieces in shapes:
            rows = [scores[start + i * n_pieces : start + (i + 1) * n_pieces] for i in range(n_claims)]
            start += n_claims * n_pieces
            supports.append(sum(map(max, rows)) / n_claims if n_claims else math.nan)
        return supports

    def _score_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        import torch

        scores = [0.0] * len(pairs)
        order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]) + len(pairs[i][1]))
        for start in range(0, len(pairs), self.batch_size):
            rows = order[start : start + self.batch_size]
            batch = self.tokenizer(
                [pairs[i][0] for i in rows],
                [pairs[i][1] for i in rows],
                truncation="only_first",
                max_length=self.length,
                padding=True,
                return_tensors="pt",
            ).to(self.device)
            with torch.inference_mode():
                logits = self._forward(batch)
            for i, value in zip(rows, logits.float().softmax(-1)[:, self.place].tolist(), strict=True):
                scores[i] = value
        return scores


def chunks(source: str, *, words: int = CHUNK_WORDS) -> list[str]:
    """The source in pieces of whole sentences, equally many in each, of about `words` words; one piece at least.

    >>> chunks("One two. Three four. Five.", words=3)
    ['One two.', 'Three four.', 'Five.']
    """
    pieces = [source[a:b] for a, b in sentences(source)] or [""]
    size = max(len(pieces) // (len(source.split()) // words + 1), 1)
    return [" ".join(pieces[i : i + size]) for i in range(0, len(pieces), size)]


def is_align_score(ref: str | Path) -> bool:
    """Whether a folder holds AlignScore's weights."""
    return _weight_names(Path(ref) / "model.safetensors") >= _HEADS


def align_score_folder(checkpoint: Path, base: str, folder: Path) -> Path:
    """Write AlignScore's published `.ckpt` file as a folder that `SupportScorer` opens, and return it.

    Only tensors are read from the file: nothing in it is run.

    Args:
        checkpoint: the published file.
        base: the encoder it was trained from (`roberta-base`, `roberta-large`), for its configuration and tokenizer.
        folder: where to write.

    Raises:
        BadInput: the file does not hold AlignScore's weights.
    """
    import torch
    from safetensors.torch import save_file

    from gnomon.core.models.load import load_config, load_tokenizer

    try:
        # A checkpoint of this age is a whole program state; what is no tensor is refused, not opened.
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = "cannot be read" if isinstance(error, OSError) else "holds more than tensors"
        raise BadInput(
            f"{checkpoint} {reason}. Save its state_dict alone, where you trust it, and name that file."
        ) from None
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    weights = {name: value.contiguous() for name, value in state.items() if torch.is_tensor(value)}
    if not weights.keys() >= _HEADS:
        raise BadInput(f"{checkpoint} does not hold AlignScore's weights: tri_layer.weight is missing.")
    folder.mkdir(parents=True, exist_ok=True)
    load_config(base).save_pretrained(folder)
    load_tokenizer(base).save_pretrained(folder)
    kept = {n: v.clone() for n, v in weights.items() if n.startswith(("base_model.", "tri_layer."))}
    save_file(kept, folder / "model.safetensors")
    return folder


def _weight_names(path: Path) -> set[str]:
    from safetensors import safe_open

    if not path.is_file():
        return set()
    with safe_open(path, "pt") as file:
        return set(file.keys())


def _load_align_score(ref: str | Path, device: str) -> tuple[Any, int, int]:
    """The forward pass from a batch to three logits, the place of "aligned" among them, and the longest input."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModel

    from gnomon.core.models.load import load_config

    config = load_config(ref)
    weights = load_file(Path(ref) / "model.safetensors")
    encoder = AutoModel.from_config(config)
    own = {n.removeprefix("base_model."): v for n, v in weights.items() if n.startswith("base_model.")}
    missing = [n for n in encoder.load_state_dict(own, strict=False).missing_keys if "position_ids" not in n]
    if missing:
        raise BadInput(
            f'"{ref}" does not fit its config.json: {missing[0]} is missing. Name the encoder it was trained from.'
        )
    classes, width = weights["tri_layer.weight"].shape
    head = torch.nn.Linear(width, classes)
    head.load_state_dict({"weight": weights["tri_layer.weight"], "bias": weights["tri_layer.bias"]})
    encoder.eval().to(device)
    head.eval().to(device)
    return lambda batch: head(encoder(**batch).pooler_output), 0, _longest(config)


def _load_classifier(ref: str | Path, device: str) -> tuple[Any, int, int]:
    from gnomon.core.models.load import load_config, load_scorer

    config = load_config(ref)
    labels = cast("dict[int, str]", config.id2label)
    index = next((i for i, label in labels.items() if label.lower().startswith(("entail", "aligned"))), None)
    if index is None:
        raise ModelMismatch(
            f'Model "{ref}" has no label of entailment among {", ".join(labels.values())}. '
            "Name a classifier of natural-language inference, or set id2label in its config.json."
        )
    model = load_scorer(ref, device=device, asked_by="support", most_labels=None)
    return lambda batch: model(**batch).logits, int(index), _longest(config)


def _longest(config: Any) -> int:
    """Tokens of a pair at most; RoBERTa's positions begin behind its padding id."""
    positions = getattr(config, "max_position_embeddings", 512)
    offset = (config.pad_token_id or 0) + 1 if config.model_type in ("roberta", "xlm-roberta") else 0
    return min(512, positions - offset)
