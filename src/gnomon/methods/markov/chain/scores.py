"""Next-token logits of every state in one walk over the tree of states.

A causal model gives every prefix's logits for free, and all states that begin alike share their beginning. So the tree of states is
walked from the root, with the keys and values of a state handed on to its T successors: each of the T + ... + T^K states costs one
token, where scoring each by itself costs its length.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gnomon.core.config import fingerprint
from gnomon.core.models.sampling.cache import select_rows
from gnomon.errors import BadInput, ModelMismatch
from gnomon.methods.markov.chain.states import StateSpace

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Logits = NDArray[np.float32]

Scorer = Callable[[list[list[int]]], Any]
"""Lists of token ids -> logits of the next token, `[B, V]`."""

CELLS = 2**25
"""Logits computed at once, when no batch size is given."""


def score_model(
    model: PreTrainedModel,
    space: StateSpace,
    vocab: Sequence[int],
    prefix: Sequence[int] = (),
    batch_size: int | None = None,
) -> Logits:
    """Logits of all states, `[S, T]`, in the vocabulary's order.

    Every state is encoded from position 0, after the prefix: what decoding with a window that cuts off old tokens does.

    Args:
        model: a causal model.
        space: the states.
        vocab: token id of each of the T tokens.
        prefix: token ids that stand before every state and are no part of it.
        batch_size: states scored at once; None: what fits a modest memory.

    Raises:
        ModelMismatch: prefix and window do not fit the model's positions, or the vocabulary has a token that it does not.
    """
    import torch
    from transformers import DynamicCache

    _check(model, space, vocab, prefix)
    rows = batch_size or min(1024, CELLS // int(model.config.get_text_config().vocab_size))
    rows = max(rows, space.tokens)
    scores = np.empty((len(space), space.tokens), dtype=np.float32)
    ids = torch.tensor(list(vocab), device=model.device)

    def walk(length: int, first: int, tokens: Any, cache: Any) -> None:
        """Score the states of one length from number `first` within it on, and then all that grow from them."""
        logits = model(input_ids=tokens, past_key_values=cache, use_cache=True).logits[:, -1].float()
        at = space.offset(length) + first
        scores[at : at + len(tokens)] = logits[:, ids].cpu().numpy()
        if length == space.window:
            return
        step = max(1, rows // space.tokens)
        for start in range(0, len(tokens), step):
            parents = torch.arange(start, min(start + step, len(tokens)), device=model.device)
            grown = select_rows(cache, parents.repeat_interleave(space.tokens))
            walk(length + 1, (first + start) * space.tokens, ids.repeat(len(parents))[:, None], grown)

    was_training = model.training
    model.eval()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        before = torch.tensor(list(prefix), dtype=torch.long, device=model.device).expand(space.tokens, -1)
        # The library's plain cache: each state adds one token and hands copies on, so spare room would be copied for nothing.
        walk(1, 0, torch.cat([before, ids[:, None]], 1), DynamicCache(config=model.config))
    model.train(was_training)
    return scores


def score_callable(
    scorer: Scorer,
    space: StateSpace,
    vocab: Sequence[int] | None,
    prefix: Sequence[int] = (),
    batch_size: int | None = None,
) -> Logits:
    """Logits of all states from any function, `[S, T]`.

    Args:
        scorer: gets token ids (the prefix's and then the state's), gives logits.
        space: the states.
        vocab: token id of each token, which is also its column in the logits; None: 0..T-1.
        prefix: token ids that stand before every state.
        batch_size: states per call; None: 4096.

    Raises:
        BadInput: the function gives something of another shape.
    """
    ids = np.arange(space.tokens) if vocab is None else np.asarray(vocab)
    rows = batch_size or 4096
    scores = np.empty((len(space), space.tokens), dtype=np.float32)
    for length in range(1, space.window + 1):
        for start in range(0, space.tokens**length, rows):
            stop = min(start + rows, space.tokens**length)
            states = ids[space.block(length, start, stop)].tolist()
            logits = np.asarray(scorer([[*prefix, *state] for state in states]))
            if logits.ndim != 2 or len(logits) != len(states) or logits.shape[1] <= ids.max():
                raise BadInput(
                    f"The model function must give [{len(states)}, {int(ids.max()) + 1} or more] logits for {len(states)} token "
                    f"lists; it gave {list(logits.shape)}."
                )
            scores[space.offset(length) + start : space.offset(length) + stop] = logits[:, ids]
    return scores


def identity(model: PreTrainedModel) -> str:
    """A hash of a model's configuration and weights: what its logits depend on."""
    import torch

    digest = hashlib.blake2b(fingerprint(model.config.to_dict()).encode(), digest_size=16)
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().flatten().contiguous().cpu().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def prefix_ids(tokenizer: PreTrainedTokenizerBase, text: str = "", bos: str = "auto") -> list[int]:
    """Token ids that stand before every state.

    Args:
        tokenizer: the model's.
        text: a fixed text; it ends in front of the state.
        bos: "yes" or "no" begin-of-text token, or "auto": as the tokenizer adds it to any text.

    Raises:
        ModelMismatch: a begin-of-text token is wanted and the tokenizer has none.
    """
    body = list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []
    first = tokenizer.bos_token_id
    if bos == "yes" and first is None:
        raise ModelMismatch("The tokenizer has no begin-of-text token. Use --bos no.")
    adds = first is not None and list(tokenizer("x")["input_ids"])[:1] == [first]
    return [first, *body] if bos == "yes" or (bos == "auto" and adds) else body


def token_ids(tokenizer: PreTrainedTokenizerBase, names: Sequence[str]) -> list[int]:
    """The id of each token, given as it stands in the vocabulary, as a text that is one token, or as `#15`.

    Raises:
        BadInput: a text is not one token, or two texts are the same token.
    """
    vocabulary = tokenizer.get_vocab()
    listed = []
    for name in names:
        if name.startswith("#") and name[1:].isdigit():
            listed.append(int(name[1:]))
            continue
        ids = (
            [vocabulary[name]]
            if name in vocabulary
            else tokenizer(name, add_special_tokens=False)["input_ids"]
        )
        if len(ids) != 1:
            pieces = ", ".join(map(repr, tokenizer.convert_ids_to_tokens(ids)))
            raise BadInput(
                f'"{name}" is {len(ids)} tokens of this tokenizer ({pieces}). Name single tokens, or ids as #15.'
            )
        listed.append(int(ids[0]))
    if len(set(listed)) < len(listed):
        raise BadInput(f"Two of the tokens {', '.join(names)} are the same: ids {listed}. Name each once.")
    return listed


def _check(model: PreTrainedModel, space: StateSpace, vocab: Sequence[int], prefix: Sequence[int]) -> None:
    config = model.config.get_text_config()
    positions = getattr(config, "max_position_embeddings", None)
    needed = len(prefix) + space.window
    if positions is not None and needed > positions:
        raise ModelMismatch(
            f"Prefix and window need {needed} positions; the model has {positions}. Use a smaller window."
        )
    if len(vocab) != space.tokens:
        raise BadInput(f"The vocabulary has {len(vocab)} tokens and the states are made of {space.tokens}.")
    bad = [token for token in [*vocab, *prefix] if not 0 <= token < config.vocab_size]
    if bad:
        raise ModelMismatch(
            f"The model's vocabulary has {config.vocab_size} tokens; there is no token {bad[0]}."
        )
