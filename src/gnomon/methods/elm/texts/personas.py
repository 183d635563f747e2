"""The words ELM puts in front of a text: whether an expert in the concept wrote it or a novice; and changes of topic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from gnomon.core.files import room_file
from gnomon.errors import BadConfig, BadInput

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROMPTS = room_file(__name__, "prompts")


@dataclass(frozen=True)
class Personas:
    """Prefixes by which a model judges whether a text knows a concept. Each is one that is drawn at random."""

    expert: tuple[str, ...]
    """The text was written by an expert (c-)."""
    novice: tuple[str, ...]
    """The text was written by a novice (c+)."""

    def encode(self, tokenizer: PreTrainedTokenizerBase) -> tuple[list[list[int]], list[list[int]]]:
        """Token ids of the expert's and of the novice's prefixes, the begin-of-text token in front where there is one."""
        return [prefix_ids(tokenizer, text) for text in self.expert], [
            prefix_ids(tokenizer, text) for text in self.novice
        ]


def concept_text(concept: str | Sequence[str]) -> str:
    """Keywords, which commas separate, as one string; a name of `prompts/concepts.yaml` stands for the keywords there.

    Raises:
        BadConfig: there is no keyword.

    >>> concept_text(["potions", "spells"])
    'potions, spells'
    """
    parts = concept.split(",") if isinstance(concept, str) else concept
    words = [word.strip() for word in parts if word.strip()]
    if not words:
        raise BadConfig("concept must name at least one keyword; got none.")
    concepts = _yaml(PROMPTS / "concepts.yaml")
    return ", ".join(part for word in words for part in concepts.get(word, [word]))


def read_personas(concept: str | Sequence[str], source: str = "deflecting") -> Personas:
    """The prefixes for a concept.

    Args:
        concept: keywords.
        source: `deflecting`: novices who change the subject; `plain`: novices who do not; or a YAML file with the lists `expert`
            and `novice`, each of sentences in which `{concept}` stands for the keywords.

    Raises:
        BadInput: the file is no such thing.
        BadConfig: there is no keyword.
    """
    name = concept_text(concept)
    if source in ("deflecting", "plain"):
        lists, path = _yaml(PROMPTS / "personas.yaml"), PROMPTS / "personas.yaml"
        lists = {"expert": lists["expert"], "novice": lists["novice" if source == "deflecting" else "plain"]}
    else:
        path = Path(source)
        lists = _yaml(path)
    prefixes = {}
    for side in ("expert", "novice"):
        texts = lists.get(side) if isinstance(lists, dict) else None
        if (
            not isinstance(texts, list)
            or not texts
            or not all(isinstance(t, str) and t.strip() for t in texts)
        ):
            raise BadInput(
                f'{path}: "{side}" must be a list of sentences. A persona file has the lists "expert" and "novice", with '
                "{concept} where the keywords go."
            )
        prefixes[side] = tuple(text.replace("{concept}", name) for text in texts)
    return Personas(prefixes["expert"], prefixes["novice"])


def topics() -> tuple[str, ...]:
    """Twenty sentences that change the subject."""
    return tuple(_yaml(PROMPTS / "topics.yaml"))


def start_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What stands before a bare text: the begin-of-text token where the tokenizer puts one."""
    first = tokenizer("a")["input_ids"][:1]
    return list(first) if tokenizer.bos_token_id is not None and first == [tokenizer.bos_token_id] else []


def prefix_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a prefix and a line end, to be joined to those of a text: one begin-of-text token in front, none within.

    Tokenised apart from the text. The joined string could merge tokens across the border.
    """
    return [*start_ids(tokenizer), *text_ids(tokenizer, text.rstrip() + "\n")]


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a text without any special token."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def continuations(
    tokenizer: PreTrainedTokenizerBase, before: str, after: Sequence[str]
) -> tuple[list[int], list[list[int]]]:
    """Token ids of a text, and of each of several texts as they stand behind it: joined, the ids of the running text.

    Encoded alone, a continuation gets a space in front from tokenizers like SentencePiece: " A" becomes two spaces and A,
    which no model expects. Where a token reaches over the border, the text before ends in front of it.
    """
    head = text_ids(tokenizer, before)
    running = [text_ids(tokenizer, before + text) for text in after]
    shared = min([len(head), *(_shared(head, ids) for ids in running)])
    return head[:shared], [ids[shared:] for ids in running]


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    """How many ids two texts have in common from the first on."""
    pairs = zip(a, b, strict=False)
    return next((i for i, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))


@cache
def _yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}).") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise BadInput(f"{path}{line}: not YAML.") from None
