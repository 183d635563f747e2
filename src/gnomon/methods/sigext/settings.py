"""What an extractor's scores and choices depend on beside its weights: the file `sigext.json`."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gnomon.core.config import check
from gnomon.core.files import write_json
from gnomon.core.text import stopwords_name
from gnomon.errors import BadInput
from gnomon.methods.sigext.encoding import Tokenisation
from gnomon.methods.sigext.rows import Reading

FILE = "sigext.json"
"""Name of the file beside the weights that makes a token classifier an extractor."""
FORMAT = 1


@dataclass(frozen=True)
class Settings:
    """What goes with an extractor's weights."""

    reading: Reading = field(default_factory=Reading)
    """How phrases are found and labelled."""
    tokenisation: Tokenisation = "offsets"
    """How documents are cut into tokens; a model scores worse in the other way."""
    max_length: int = 4096
    """Longest input in tokens."""
    tau: float = -math.inf
    """Phrases that score below are never shown."""
    percentile: float = 75.0
    """Share of the validation phrases, in percent, that tau cuts off."""
    k: int = 20
    """Phrases shown, at most."""
    trained_on: tuple[str, ...] = ()
    """The data, for people."""

    def __post_init__(self) -> None:
        check(self.k >= 1, "k", ">= 1", self.k)
        check(0 <= self.percentile < 100, "percentile", "in 0..100", self.percentile)


def read_settings(folder: Path) -> Settings:
    """What stands in a folder's `sigext.json`.

    Raises:
        BadInput: there is none, it is of a newer format, or the stop words have changed since.
    """
    path = folder / FILE
    if not path.is_file():
        raise BadInput(
            f"{folder} has no {FILE}: it is not an extractor that `gnomon sigext train` made. Train one, or name another folder."
        )
    try:
        told = json.loads(path.read_text("utf-8"))
        if told.pop("format") != FORMAT:
            raise BadInput(f"{path} is of another format. Use the version of gnomon that wrote it.")
        words = told.pop("stopwords")
        reading = Reading(**told.pop("reading"))
        tau = told.pop("tau")
        told["trained_on"] = tuple(told["trained_on"])
        settings = Settings(reading=reading, tau=-math.inf if tau is None else tau, **told)
    except (KeyError, TypeError, ValueError):
        raise BadInput(f"{path} cannot be read. Train the extractor again, or restore the file.") from None
    if words != (here := stopwords_name(reading.language)):
        raise BadInput(
            f"{folder} was trained with the stop words {words}; here they are {here}, and phrases would differ. Train it again."
        )
    return settings


def write_settings(folder: Path, settings: Settings) -> None:
    """Write `sigext.json`; a threshold of -inf is null there."""
    told = asdict(settings) | {"tau": None if settings.tau == -math.inf else settings.tau}
    stop = stopwords_name(settings.reading.language)
    write_json(folder / FILE, {"format": FORMAT, "stopwords": stop, **told})
