"""The one exception family: everything a user can cause derives from `UserError`.

    UserError
    ├── BadConfig       a setting is out of range, misspelt or contradicts another
    ├── BadInput        a file, record or text cannot be used
    ├── ModelMismatch   the model or tokenizer does not fit the request
    ├── MissingExtra    an optional package is not installed
    ├── LLMFailure      an endpoint did not give a usable answer
    │   └── EndpointDown    it will give none: a wrong key, model or address
    ├── BudgetSpent     the allowed calls or tokens are used up
    └── WorkLost        a worker process died; repeating the command continues

A message says what happened, where, and what to do next, in one or two sentences.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Base of all errors that a user can cause and mend; the command line prints it without a traceback."""

    exit_code = 1


class BadConfig(UserError):
    """A setting is out of range, misspelt or contradicts another."""

    exit_code = 2


class BadInput(UserError):
    """A file, a record or a text cannot be used as it is."""

    exit_code = 2


class ModelMismatch(UserError):
    """The model or its tokenizer does not fit what was asked of it."""

    exit_code = 2


class MissingExtra(UserError):
    """An optional package is not installed."""

    exit_code = 2

    @classmethod
    def of(cls, package: str, extra: str) -> MissingExtra:
        """The error for `package`, which the extra `extra` installs."""
        return cls(f'{package} is not installed. Install it with: pip install "gnomon[{extra}]"')


class LLMFailure(UserError):
    """A language-model endpoint did not give a usable answer."""


class EndpointDown(LLMFailure):
    """The first requests show that an endpoint will answer none: the key, the model or the address is wrong, or it is not there."""

    def __init__(self, message: str, reply: object = None) -> None:
        super().__init__(message)
        self.reply = reply
        """The failed reply that showed it; None where nothing was asked any more."""


class BudgetSpent(UserError):
    """The allowed number of calls or tokens is used up."""


class WorkLost(UserError):
    """A worker process died; what was finished is kept and repeating the command continues."""


def nearest(word: str, names: Iterable[str]) -> str:
    """A sentence that suggests the nearest of `names`, or lists them all when none is near.

    >>> nearest("lintsec", ["sieve", "lintseq"])
    'Did you mean "lintseq"?'
    >>> nearest("xyz", ["b", "a"])
    'Known: a, b.'
    """
    names = sorted(names)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f'Did you mean "{close[0]}"?' if close else f"Known: {', '.join(names)}."
