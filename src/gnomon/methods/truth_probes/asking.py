"""P(True): the model is asked about its own answer, and the two letters' logits are compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gnomon.core.files import room_file
from gnomon.errors import ModelMismatch
from gnomon.methods.truth_probes.answers import Answer


def p_true(
    model: Any,
    tokenizer: Any,
    answers: Sequence[Answer],
    *,
    exact: bool = False,
    swapped: bool = False,
    batch_size: int = 16,
) -> NDArray[np.float64]:
    """Probability of "True" against "False" for each answer, [N].

    Args:
        model: a `ModelHandle`, or a causal transformers model.
        tokenizer: its tokenizer; None with a handle.
        answers: what the model wrote.
        exact: ask about the exact answer in place of the whole one.
        swapped: `(A) False (B) True`: some models like one letter whatever it means.
        batch_size: prompts read side by side.

    Raises:
        ModelMismatch: the tokenizer writes both letters as the same token.

    Source: Kadavath et al., "Language Models (Mostly) Know What They Know" (2022).
    """
    from gnomon.core.models import as_handle
    from gnomon.core.models.batch import pad
    from gnomon.core.models.sampling.decoding import last_logits_only
    from gnomon.core.models.sampling.text import padding_id

    handle = as_handle(model, tokenizer)
    prompts, letters = zip(
        *(_prompt(handle.processor, answer, exact, swapped) for answer in answers), strict=True
    )
    room = getattr(handle.model.config.get_text_config(), "max_position_embeddings", None)
    found = np.empty(len(prompts))
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        rows = [prompts[i] if room is None else prompts[i][-room:] for i in part]
        batch = pad(rows, padding_id(handle.processor)).to(handle.model.device)
        with torch.no_grad():
            output = handle.model(**batch.inputs(), use_cache=False, **last_logits_only(handle.model))
        pairs = torch.tensor([letters[i] for i in part], device=output.logits.device)
        chosen = output.logits[:, -1].float().gather(-1, pairs).softmax(-1)[:, 0]
        found[part] = chosen.cpu().numpy()
    return found


def _prompt(tokenizer: Any, answer: Answer, exact: bool, swapped: bool) -> tuple[list[int], tuple[int, int]]:
    """Token ids up to the letter, and the letters' ids: True first. They are read off the whole text, so that spaces are right."""
    template = room_file(__name__, "prompts/p_true.txt").read_text("utf-8").rstrip("\n")
    said = answer.exact_answer if exact else answer.answer.strip()
    text = template.format(
        question=answer.question,
        answer=said,
        a="False" if swapped else "True",
        b="True" if swapped else "False",
    )
    a, b = (tokenizer(text + letter)["input_ids"] for letter in "AB")
    place = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
    if place is None:
        raise ModelMismatch(
            "The tokenizer writes A and B as the same token; P(True) cannot be asked of this model."
        )
    return a[:place], (b[place], a[place]) if swapped else (a[place], b[place])
