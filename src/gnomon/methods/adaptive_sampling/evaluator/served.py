"""c of given answers from a server that returns the log-probabilities of a prompt, such as vLLM with the trained model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.core.llm import LLMConfig, complete, manner
from gnomon.core.llm.endpoint.client import split_endpoint
from gnomon.core.llm.endpoint.given import GivenLogprobs, request_of
from gnomon.methods.adaptive_sampling.evaluator.carriers import Carrier

TOGETHER = 4
"""Prompts under way at once: a server keeps the logits of all of them."""


def served_c(
    llm: Any, rows: Sequence[Sequence[int]], carrier: Carrier, tau: float, *, together: int = TOGETHER
) -> tuple[NDArray[np.float64], dict[int, str]]:
    """C behind each row of token ids, [N], NaN where the server gave none; and its reasons by row.

    Two prompts a row, which end in one of the two replies each: a server says how likely a token of its prompt is, and their
    difference is that of the two logits.

    Args:
        llm: a `GivenLogprobs`, with whatever stands around it.
        rows: prompt, answer and question, as ids.
        carrier: the two replies.
        tau: divides the logit of c.
        together: requests under way at once.
    """
    requests = [request_of([*row, reply]) for row in rows for reply in (carrier.no, carrier.yes)]
    replies = complete(llm, requests, concurrency=together)
    values, reasons = np.full(len(rows), np.nan), {}
    for i in range(len(rows)):
        pair = replies[2 * i : 2 * i + 2]
        error = next((reply.error for reply in pair if reply.error is not None), None)
        if error is not None:
            reasons[i] = error
            continue
        no, yes = (float(json.loads(reply.text)[-1]) for reply in pair)
        values[i] = 1 / (1 + np.exp(-(no - yes) / tau))
    return values, reasons


@contextmanager
def served_model(endpoint: str, cfg: LLMConfig, run: Any) -> Iterator[Any]:
    """A served model as an LLM that says how likely its prompt is, closed at the end.

    Args:
        endpoint: `http://host:8000/v1#NAME`.
        cfg: how it is asked.
        run: records what is asked.
    """
    url, name = split_endpoint(endpoint)
    with run.asking({"evaluator": partial(GivenLogprobs, url, name, manner=manner(cfg))}, cfg) as models:
        yield models["evaluator"]
