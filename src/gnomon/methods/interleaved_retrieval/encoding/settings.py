"""How a retriever writes, reads and merges: what its folder says beside the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from gnomon.core.files import write_json
from gnomon.core.retrieval.encoders.folders import MODULES, PROMPTS, ROLES
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.interleaved_retrieval.documents.serialise import Form

FILE = "retriever_config.json"
SECTION_END, QUERY_END = "[EoS]", "[EoQ]"

Merge = Literal["mean", "norm_mean", "token_weighted_mean", "max_sim"]


@dataclass(frozen=True)
class Retrieving:
    """How documents and queries become vectors."""

    form: Form = field(default_factory=Form)
    """How a section is written."""
    merge: Merge = "mean"
    """How the vectors of sections become one of a document, see `MERGES`; max_sim: none, the best section counts."""
    max_length: int | None = None
    """Tokens of a section or query, image tokens and the end among them; None: as many as the model has positions."""
    temperature: float = 0.07
    """Divides the cosine in training."""
    pick: Literal["last", "before", "mean"] = "last"
    """Which state stands for a text: that of its last token, of the one before it (the last ordinary one), or the mean over all."""
    ends: Mapping[str, str] = field(default_factory=lambda: {"passage": SECTION_END, "query": QUERY_END})
    """Role -> the learned token that ends its texts; empty: none."""
    template: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Role -> markup in front of a text and behind it, as the model was taught."""

    def save(self, folder: Path) -> None:
        """Write it beside the weights."""
        write_json(folder / FILE, asdict(self))


def read_settings(folder: Path) -> Retrieving | None:
    """What a folder says; None where it says nothing.

    Raises:
        BadInput: the file cannot be read.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        raw = json.loads(path.read_text("utf-8"))
        raw["form"] = Form(**raw["form"])
        raw["template"] = {role: tuple(parts) for role, parts in raw["template"].items()}
        return Retrieving(**raw)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadInput(f"{path}: cannot be read ({error}).") from None


_HERE = "\u0091CONTENT\u0092"


def published(folder: Path, processor: Any) -> Retrieving | None:
    """How a published embedder wants its texts: the chat template with the instructions of its folder, and the last token.

    An embedder is known by the files of sentence-transformers: a list of modules whose pooling is the last token or the mean. Its
    instructions are the prompts there, by role; they go into the template as the system's message.

    Args:
        folder: of the model.
        processor: its processor or tokenizer, which has the template.

    Returns:
        None where the folder is no embedder's.

    Raises:
        BadConfig: its vectors are read in a way that is not known here.
    """
    if not (folder / MODULES).is_file():
        return None
    modules = json.loads((folder / MODULES).read_text("utf-8"))
    pooling = next((m["path"] for m in modules if m["type"].rpartition(".")[2] == "Pooling"), None)
    settings = json.loads((folder / pooling / "config.json").read_text("utf-8")) if pooling else {}
    mode = settings.get("pooling_mode")
    modes = [mode] if isinstance(mode, str) else list(mode or [])
    modes = modes or [
        name for name, is_on in settings.items() if name.startswith("pooling_mode") and is_on is True
    ]
    picks: dict[str, Any] = {
        "lasttoken": "last",
        "pooling_mode_lasttoken": "last",
        "mean": "mean",
        "pooling_mode_mean_tokens": "mean",
    }
    if len(modes) != 1 or modes[0] not in picks:
        raise BadConfig(
            f'"{folder}" pools by {", ".join(modes) or "nothing"}; known are the last token and the mean.'
        )
    prompts: dict[str, Any] = {}
    if (folder / PROMPTS).is_file():
        prompts = json.loads((folder / PROMPTS).read_text("utf-8")).get("prompts") or {}
    template = {}
    for role, names in ROLES.items():
        instruction = next((prompts[name] for name in names if prompts.get(name)), "")
        template[role] = _around(processor, instruction, role)
    return Retrieving(
        form=Form(),
        ends={"passage": "", "query": ""},
        pick=picks[modes[0]],
        template=template,
    )


def _around(processor: Any, instruction: str, role: str) -> tuple[str, str]:
    """What the chat template puts in front of a user's message and behind it."""
    owner = (
        processor if getattr(processor, "chat_template", None) else getattr(processor, "tokenizer", processor)
    )
    if not getattr(owner, "chat_template", None):
        return instruction, ""
    system: list[dict[str, Any]] = (
        [{"role": "system", "content": [{"type": "text", "text": instruction}]}] if instruction else []
    )
    turns: list[dict[str, Any]] = [*system, {"role": "user", "content": [{"type": "text", "text": _HERE}]}]
    # A template may ask which of the two it writes, as sentence-transformers lets it.
    task = {"task": "query" if role == "query" else "document"} if "task" in str(owner.chat_template) else {}
    text = str(owner.apply_chat_template(turns, tokenize=False, **task))
    if text.count(_HERE) != 1:
        # A template of text alone takes a message as it is.
        flat = [{**turn, "content": str(turn["content"][0]["text"])} for turn in turns]
        text = str(owner.apply_chat_template(flat, tokenize=False))
    front, _, behind = text.partition(_HERE)
    return front, behind
