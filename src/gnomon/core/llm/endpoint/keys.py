"""Keys and hosts: a key belongs to the host that gave it out, and goes to no other."""

from __future__ import annotations

import ipaddress
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from gnomon.core.config import check

log = logging.getLogger(__name__)

VENDORS = {
    "openai": ("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "anthropic": ("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
    "gemini": ("https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"),
    "openrouter": ("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
}
"""Scheme of a reference -> its server, which answers to the OpenAI format, and the environment variable that holds its key."""

MORE = "GNOMON_KEYS"
"""Environment variable with further pairs `VARIABLE@HOST`, separated by spaces or commas."""


@dataclass(frozen=True)
class Keys:
    """Which environment variable holds the key of which host. No key is ever kept here.

    Args:
        named: `VARIABLE@HOST` for one host, with `:PORT` where it matters; a bare `VARIABLE` for every host that has no other,
            unless it is the variable of a vendor, which goes to that vendor alone.
    """

    named: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check(not isinstance(self.named, str), "llm.api_key_env", "a tuple of names", self.named)
        for entry in self.named:
            variable, at, host = entry.partition("@")
            check(
                bool(variable) and bool(host) == bool(at) and "/" not in entry,
                "llm.api_key_env",
                "names of environment variables, as VARIABLE or VARIABLE@HOST",
                entry,
            )

    def variable(self, url: str) -> str | None:
        """The environment variable for the key of the server at `url`; None when no variable is meant for it."""
        host = _host(url)
        more = (os.environ.get(MORE) or "").replace(",", " ").split()
        bare = [entry for entry in self.named if "@" not in entry]
        for entry in (*self.named, *more):
            variable, _, where = entry.partition("@")
            if where and where.lower() in (host, host.partition(":")[0]):
                return variable
        of_vendor = {_host(server): variable for server, variable in VENDORS.values()}
        if (base := os.environ.get("OPENAI_BASE_URL")) and _host(base) not in of_vendor:
            of_vendor[_host(base)] = VENDORS["openai"][1]  # these two variables are set as a pair
        if host in of_vendor:
            own = [variable for variable in bare if variable not in of_vendor.values()]
            return own[0] if own else of_vendor[host]
        return next((variable for variable in bare if variable not in of_vendor.values()), None)

    def key(self, url: str) -> str | None:
        """The key for the server at `url`; None when the environment has none for it."""
        variable = self.variable(url)
        return (os.environ.get(variable) or None) if variable else None

    def missing(self, url: str) -> str | None:
        """The variable to set where a vendor at `url` needs a key and the environment has none; None where nothing is missing."""
        is_vendor = _host(url) in {_host(server) for server, _ in VENDORS.values()}
        return self.variable(url) if is_vendor and self.key(url) is None else None


def is_loopback(url: str) -> bool:
    """Whether a URL is on this machine.

    >>> is_loopback("http://localhost:8000/v1"), is_loopback("http://127.0.0.9/v1"), is_loopback("http://10.0.0.9/v1")
    (True, True, False)
    """
    name = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def warn_unencrypted(url: str, variable: str) -> None:
    """Log that a key would travel in the open: over plain HTTP to another machine."""
    if urlsplit(url).scheme == "http" and not is_loopback(url):
        log.warning(
            "The key in %s travels unencrypted to %s. Use https, or unset %s for this host.",
            variable,
            _host(url),
            variable,
        )


def without_keys(text: str, keys: Sequence[str | None]) -> str:
    """`text` with each of `keys` in it replaced: servers repeat them in their errors.

    >>> without_keys("Incorrect key: abc", ["abc", None])
    'Incorrect key: ***'
    """
    for key in keys:
        text = text.replace(key, "***") if key else text
    return text


def _host(url: str) -> str:
    """Host of a URL, with its port where it has one, in lower case."""
    return urlsplit(url).netloc.rpartition("@")[2].lower()
