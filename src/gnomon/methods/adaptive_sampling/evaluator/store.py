"""A trained self-evaluator in a folder: the checkpoint or adapter as others read it, and `selfeval.json` beside it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gnomon.core.config import fingerprint, narrow
from gnomon.core.files import write_json
from gnomon.core.models import load_model, load_tokenizer
from gnomon.core.models.adapters import save_lora
from gnomon.core.models.load import LoadConfig, model_at, weights_key
from gnomon.errors import BadInput, ModelMismatch
from gnomon.methods.adaptive_sampling.evaluator.carriers import Carrier, check_single
from gnomon.methods.adaptive_sampling.evaluator.evaluator import SelfEvaluator
from gnomon.methods.adaptive_sampling.evaluator.schedule import Restart

log = logging.getLogger(__name__)

FILE = "selfeval.json"


@dataclass(frozen=True)
class About:
    """What `selfeval.json` holds beside the carrier."""

    labels: str
    """pair or soft."""
    epsilon: float
    """Rewards closer than this tie."""
    reward: str
    """By which the labels were made."""
    policy: str
    """Key of the weights that the samples were drawn from."""
    trained: str = ""
    """Key of the weights that were trained on them."""
    prompts: Sequence[str] = field(default_factory=tuple)
    """Keys of the prompts that were trained on, which may not be tested on."""


def policy_key(model: Any) -> str:
    """A key of the weights: labels are about the policy that drew the samples, and about no other.

    Of a model with adapters it is that of what PEFT saves of them; rows of added tokens in the base differ when loaded anew.
    """
    if not hasattr(model, "peft_config"):
        return str(weights_key(model.state_dict().values()))
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    return str(weights_key(state[name] for name in sorted(state)))


def prompt_key(text: str) -> str:
    """The key of a prompt."""
    return fingerprint(text, length=16)


def save_evaluator(evaluator: SelfEvaluator, about: About, folder: Path) -> None:
    """Write model or adapter, tokenizer and `selfeval.json`."""
    model = evaluator.model
    if hasattr(model, "peft_config"):
        save_lora(model, evaluator.tokenizer, folder)
    else:
        model.save_pretrained(folder)
        evaluator.tokenizer.save_pretrained(folder)
    write_about(evaluator, about, folder)


def write_about(evaluator: SelfEvaluator, about: About, folder: Path) -> None:
    """Write `selfeval.json` alone, as calibration changes it."""
    written = {
        "carrier": asdict(evaluator.carrier),
        "restart": asdict(evaluator.restart),
        "tau": evaluator.tau,
        **asdict(about),
    }
    write_json(folder / FILE, written)


def read_about(folder: str | Path) -> dict[str, Any]:
    """`selfeval.json` of a folder or a run.

    Raises:
        BadInput: there is none.
    """
    path = Path(model_at(folder)) / FILE
    if not path.is_file():
        raise BadInput(
            f"{folder} has no {FILE}. Train a self-evaluator with `gnomon adaptive-sampling train`."
        )
    stored: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return stored


def open_evaluator(
    ref: str, load: LoadConfig | None = None, *, batch_size: int = 64
) -> tuple[SelfEvaluator, About]:
    """The self-evaluator of a folder or a run, and what it was trained on.

    A warning says where the weights are not those that were trained.

    Raises:
        BadInput: there is none.
    """
    stored = read_about(ref)
    model, tokenizer = load_model(ref, load, asked_by="adaptive-sampling"), load_tokenizer(ref, load)
    carrier = carrier_of(stored["carrier"])
    check_single(carrier, tokenizer)
    about = narrow(About, stored)
    if about.trained and policy_key(model) != about.trained:
        log.warning(
            "The weights of %s are not those that were trained (or are rounded otherwise): c may not be about this model.",
            ref,
        )
    evaluator = SelfEvaluator(
        model, tokenizer, carrier, Restart(**stored["restart"]), float(stored["tau"]), batch_size
    )
    return evaluator, about


def carrier_of(stored: Mapping[str, Any]) -> Carrier:
    """A carrier out of its stored form."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()
    }
    try:
        return Carrier(**values)
    except TypeError as error:
        raise ModelMismatch(f"{FILE} is of another version: {error}.") from None
