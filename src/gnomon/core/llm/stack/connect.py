"""The whole way from a reference to a model that is asked carefully: limits, attempts, budget, memory, tape, meter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gnomon.core.llm.base import LLM, Reply
from gnomon.core.llm.config import LLMConfig
from gnomon.core.llm.references import open_llm
from gnomon.core.llm.stack.budget import Budgeted, Prices
from gnomon.core.llm.stack.cache import Cached
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

    A request passes, from the outside in: the meter, the tape, the cache, the budget, the limits, the attempts. What the cache
    knows costs no budget; what is tried again costs one call, and each attempt that failed counts as a fault.

    Args:
        ref: what to open, see `open_llm`; or a model that is open.
        cfg: how to ask; None takes the defaults.
        folder: where the cache and the record of what was spent are kept, over several runs; None keeps neither.
        meter: counts everything; None counts nothing.
        on_fault: called with every fault that is tried again; None: the meter counts it.
        device: for `hf:` and `serve:`, see `open_llm`.
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
            timeout_s=cfg.timeout_s,
            key_env=cfg.api_key_env,
            folder=folder,
            device=device,
            batch_size=batch_size,
        )
        if isinstance(ref, str)
        else ref
    )
    llm = Retried(llm, cfg.retries, on_fault=on_fault or (meter.count_fault if meter else None))
    llm = Limited(llm, concurrency=cfg.concurrency, per_minute=cfg.per_minute)
    if any(limit is not None for limit in (cfg.budget_calls, cfg.budget_tokens, cfg.budget_usd)):
        llm = Budgeted(
            llm,
            calls=cfg.budget_calls,
            tokens=cfg.budget_tokens,
            usd=cfg.budget_usd,
            prices=prices,
            folder=folder,
        )
    if cfg.cache and folder is not None:
        llm = Cached(llm, folder)
    if cfg.record is not None:
        llm = Recorded(llm, cfg.record)
    return llm if meter is None else Metered(llm, meter)
