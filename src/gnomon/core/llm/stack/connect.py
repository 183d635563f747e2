"""The whole way from a reference to a model that is asked carefully: limits, attempts, budget, memory, tape, meter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gnomon.core.files import user_folder
from gnomon.core.llm.base import LLM, Reply, is_remote
from gnomon.core.llm.config import LLMConfig
from gnomon.core.llm.endpoint.client import Manner
from gnomon.core.llm.endpoint.keys import Keys
from gnomon.core.llm.references import open_llm
from gnomon.core.llm.stack.budget import Budgeted, Prices
from gnomon.core.llm.stack.cache import Cached
from gnomon.core.llm.stack.guard import Answers, Guarded, Shortened
from gnomon.core.llm.stack.meter import Meter, Metered
from gnomon.core.llm.stack.pace import Limited, Retried
from gnomon.core.llm.stack.tape import Recorded


def connect(
    ref: str | LLM,
    cfg: LLMConfig | None = None,
    *,
    folder: Path | None = None,
    meter: Meter | None = None,
    on_fault: Callable[[Reply], None] | None = None,
    device: str = "auto",
    batch_size: int | None = None,
) -> LLM:
    """The model at `ref` with everything around it that `cfg` says.

    A request passes, from the outside in: the meter, the tape, the shortening of prompts, the cache, the guard, the attempts, the
    budget, the limits, the reading of the answer. What the cache knows costs no budget; every attempt that is answered does.

    Args:
        ref: what to open, see `open_llm`; or a model that is open.
        cfg: how to ask; None takes the defaults.
        folder: where the record of what was spent is kept, over several runs, and the replies that are not kept for all runs (see
            `cache_folder`); None keeps neither.
        meter: counts everything; None counts nothing.
        on_fault: called with every fault that is tried again; None: the meter counts it.
        device: for `hf:` and `serve:`, in the place of that of `cfg.load`; "auto" leaves that.
        batch_size: for `hf:`, see `open_llm`.

    Raises:
        BadConfig: the reference is misspelt.
        UserError: what it names cannot be opened.
    """
    cfg = cfg or LLMConfig()
    prices = Prices.of(cfg.price_in, cfg.price_out)
    if meter is not None and meter.prices is None and prices is not None:
        meter.prices, meter.usd = prices, 0.0
    llm: LLM = (
        open_llm(
            ref,
            manner=manner(cfg),
            folder=folder,
            load=cfg.load,
            device=device,
            batch_size=batch_size,
        )
        if isinstance(ref, str)
        else ref
    )
    store = cache_folder(cfg.cache, folder, is_remote=is_remote(llm))
    llm = Limited(Answers(llm), concurrency=cfg.concurrency, per_minute=cfg.per_minute)
    # Below the attempts: each of them that was answered is paid for. A request that waits for its next attempt holds no place.
    if any(limit is not None for limit in (cfg.budget_calls, cfg.budget_tokens, cfg.budget_usd)):
        llm = Budgeted(
            llm,
            calls=cfg.budget_calls,
            tokens=cfg.budget_tokens,
            usd=cfg.budget_usd,
            prices=prices,
            thinking_tokens=cfg.thinking_tokens,
            folder=folder,
        )
    llm = Retried(llm, cfg.retries, on_fault=on_fault or (meter.count_fault if meter else None))
    llm = Guarded(llm, cfg.max_failed)
    if store is not None:
        llm = Cached(llm, store)
    llm = Shortened(llm, cfg.too_long)
    if cfg.record is not None:
        llm = Recorded(llm, cfg.record)
    return llm if meter is None else Metered(llm, meter)


def manner(cfg: LLMConfig) -> Manner:
    """How `cfg` has endpoints asked over HTTP.

    Raises:
        BadConfig: a key's variable, a field or a header is not written as it must be.
    """
    return Manner(
        Keys(cfg.api_key_env), cfg.timeout_s, cfg.thinking_tokens, cfg.reasoning_effort, cfg.body, cfg.headers
    )


def cache_folder(cache: str, folder: Path | None, *, is_remote: bool) -> Path | None:
    """Where replies are kept; None: nowhere.

    What came over the network was paid for, and is kept for all runs. What this machine computes is kept with the run: a simulator
    or a script may be changed without its name saying so.

    Args:
        cache: as in `LLMConfig.cache`.
        folder: of the run.
        is_remote: whether replies come over the network from what is no simulator.
    """
    if cache == "none":
        return None
    if cache == "run" or (cache == "user" and not is_remote):
        return folder
    return user_cache() if cache == "user" else Path(cache)


def user_cache() -> Path:
    """The folder for the replies of all runs of this user; see `user_folder`."""
    return user_folder() / "replies"
