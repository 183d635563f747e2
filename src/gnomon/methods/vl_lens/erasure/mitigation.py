"""Captions written anew after words are erased from the image tokens, and what that changed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from gnomon.core.models import ModelHandle, as_handle
from gnomon.methods.vl_lens.captions.captions import Writing, describe
from gnomon.methods.vl_lens.captions.objects import Vocabulary
from gnomon.methods.vl_lens.erasure.erase import erase
from gnomon.methods.vl_lens.lens.detection import Detection, confidences


@dataclass(frozen=True)
class Setting:
    """Where and how strongly words are erased."""

    text_layer: int
    """l_T, 0..L."""
    edit_layer: int
    """l_I, counted from 0."""
    alpha: float
    """Strength; 1 leaves nothing of the word's direction."""
    joint: bool = False
    """Several words at once rather than one after another."""


@dataclass(frozen=True)
class Rewritten:
    """A caption before and after."""

    caption: str
    """Before the edit."""
    caption_edited: str
    """After it."""
    erased: tuple[str, ...]
    """The words that were erased from the image tokens."""
    removed: tuple[str, ...]
    """Objects that the caption no longer mentions."""
    kept: tuple[str, ...]
    """Objects that it mentions before and after."""
    new: tuple[str, ...]
    """Objects that it did not mention before."""

    @classmethod
    def of(cls, before: str, after: str, erased: Sequence[str], vocabulary: Vocabulary) -> Rewritten:
        """What changed between two captions.

        >>> change = Rewritten.of("a cat, a dog", "a dog, a cup", ["cat"], Vocabulary.read())
        >>> change.removed, change.kept, change.new
        (('cat',), ('dog',), ('cup',))
        """
        was, now = (tuple(dict.fromkeys(vocabulary.objects(text))) for text in (before, after))
        return cls(
            before,
            after,
            tuple(erased),
            tuple(name for name in was if name not in now),
            tuple(name for name in was if name in now),
            tuple(name for name in now if name not in was),
        )


def rewrite(
    handle: ModelHandle,
    images: Sequence[Any],
    prompt: str,
    words: Sequence[Sequence[Any]],
    setting: Setting,
    writing: Writing | None = None,
) -> list[str]:
    """A caption of each image, with its own words erased from its tokens.

    Args:
        handle: a vision-language model.
        images: PIL images or paths.
        prompt: the question about the image.
        words: one list per image, of words or of directions [D]; with none the caption is written without an edit.
        setting: where and how strongly.
        writing: beams, length and batch size; None: the paper's.
    """
    writing = writing or Writing()
    # Beams go image by image, so that all rows of a call are beams of one image and share its words.
    together = 1 if writing.beams > 1 else len(images)
    captions: list[str] = []
    for start in range(0, len(images), max(together, 1)):
        part = slice(start, start + together)
        with ExitStack() as edits:
            if any(words[part]):
                own = [list(row) for row in words[part]]
                edits.enter_context(
                    erase(
                        handle,
                        own if together > 1 else own[0],
                        text_layer=setting.text_layer,
                        edit_layer=setting.edit_layer,
                        alpha=setting.alpha,
                        joint=setting.joint,
                    )
                )
            captions += describe(handle, images[part], prompt, writing)
    return captions


def mitigate(
    model: Any,
    images: Sequence[Any],
    setting: Setting,
    how: Detection | None = None,
    *,
    prompt: str = "Give a detailed description.",
    iterations: int = 1,
    processor: Any = None,
) -> list[Rewritten]:
    """Captions without the objects that the image tokens do not support; no ground truth is needed.

    Every object of the caption with less internal confidence than the threshold is erased from the image tokens, all of an
    image together, and the caption is written again.

    Args:
        model: a handle, or a transformers model with its processor beside it.
        images: PIL images or paths.
        setting: where and how strongly words are erased.
        how: vocabulary, threshold, writing and reading; None: the defaults.
        prompt: the question about the image.
        iterations: looks at the newest caption, at most; it ends early when no word is left to erase.
        processor: of a plain transformers model.

    Source: section 5.2 (hallucination mitigation).
    """
    handle, how = as_handle(model, processor), how or Detection()
    vocabulary, size = how.vocabulary or Vocabulary.read(), how.writing.batch_size
    before = describe(handle, images, prompt, how.writing)
    after, erased = list(before), [list[str]() for _ in images]
    for _ in range(iterations):
        mentioned = [list(dict.fromkeys(vocabulary.objects(caption))) for caption in after]
        names = list(dict.fromkeys(name for row in mentioned for name in row))
        sure = confidences(handle, images, prompt, names, how.reading, size)
        doubtful = [
            [name for name in row if name not in gone and sure[i][name] < how.threshold]
            for i, (row, gone) in enumerate(zip(mentioned, erased, strict=True))
        ]
        if not any(doubtful):
            break
        for gone, more in zip(erased, doubtful, strict=True):
            gone += more
        rows = [i for i, more in enumerate(doubtful) if more]
        pictures, words = [images[i] for i in rows], [erased[i] for i in rows]
        again = rewrite(handle, pictures, prompt, words, setting, how.writing)
        for i, caption in zip(rows, again, strict=True):
            after[i] = caption
    return [
        Rewritten.of(was, now, gone, vocabulary) for was, now, gone in zip(before, after, erased, strict=True)
    ]
