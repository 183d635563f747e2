"""Low-rank adapters through PEFT, in PEFT's own folder format."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gnomon.errors import BadInput

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def add_lora(
    model: PreTrainedModel,
    rank: int,
    *,
    alpha: int | None = None,
    targets: Sequence[str] | None = None,
    new_tokens: Sequence[int] = (),
) -> PeftModel:
    """`model` with trainable low-rank adapters; its own weights are frozen.

    Args:
        model: a causal model.
        rank: rank of the update of each adapted matrix.
        alpha: the update is scaled by `alpha / rank`; `None` takes twice the rank.
        targets: names of the adapted modules; `None` adapts every linear layer but the output embedding.
        new_tokens: ids whose embedding rows, in and out, are trained and saved too: tokens that the model has
            never seen, see `add_token`.

    Raises:
        BadInput: no module has a name in `targets`.
    """
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers.pytorch_utils import Conv1D

    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=rank,
        lora_alpha=2 * rank if alpha is None else alpha,
        target_modules=list(targets) if targets else "all-linear",
        trainable_token_indices=_embedding_rows(model, new_tokens) if new_tokens else None,
        # GPT-2 keeps its matrices transposed.
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )
    try:
        with without_deprecations():
            return get_peft_model(model, config)
    except ValueError as error:
        raise BadInput(f"No adapter fits {type(model).__name__}: {error}") from error


def save_lora(model: PeftModel, tokenizer: PreTrainedTokenizerBase, folder: str | Path) -> None:
    """Save adapters, the rows of new tokens and the tokenizer to `folder`; other embeddings are left out.

    `load_model(folder)` and `AutoPeftModelForCausalLM.from_pretrained(folder)` give the model back.
    """
    model.save_pretrained(str(folder), save_embedding_layers=False)
    tokenizer.save_pretrained(folder)


@contextmanager
def without_deprecations() -> Iterator[None]:
    """Inside the `with`, what PEFT still calls in transformers by its old name is not warned about."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


def _embedding_rows(model: PreTrainedModel, new_tokens: Sequence[int]) -> dict[str, list[int]]:
    """Module name -> rows to train; a head that is tied follows the input embedding by itself."""
    into, out = model.get_input_embeddings(), model.get_output_embeddings()
    wanted = [into] if out is None or out.weight is into.weight else [into, out]
    return {
        name: list(new_tokens) for name, module in model.named_modules() if any(module is m for m in wanted)
    }
