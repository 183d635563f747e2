"""Contrastive training with many negatives in little memory, and over several processes.

The loss of a batch compares every query with every passage in it, so it is no sum over micro-batches. `cached_step` embeds a batch
piece by piece without a graph, takes the loss once over all embeddings, and then embeds each piece again to push its gradient back,
with the same dropout. The result is that of one big batch. It is called within a loss of `gnomon.core.train.fit`.

Source: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup" (2101.06983).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gnomon.core.train.memory import is_distributed, own_gradients
from gnomon.errors import BadInput

T = TypeVar("T")

NOTHING = -1
"""The id of a passage that is nobody's, and of a query's positive where the query counts for nothing: what fills a share up."""


def info_nce(
    queries: Float[Tensor, "Q D"],
    passages: Float[Tensor, "P D"],
    positives: Int[Tensor, " Q"],
    ids: Int[Tensor, " P"],
    *,
    temperature: float | Tensor = 0.05,
    symmetric: bool = False,
    never: Int[Tensor, "Q K"] | None = None,
) -> Float[Tensor, ""]:
    """Cross entropy of each query's positive among all passages, summed over queries.

    A passage that is the positive's text once more is no negative: it is left out of the query's sum, as is one with id `NOTHING`.

    Args:
        queries: unit vectors, or not; what counts is the inner product.
        passages: positives and negatives of all queries.
        positives: for each query the place of its positive in `passages`; `NOTHING`: it counts for nothing.
        ids: what each passage says, equal for equal texts, see `text_ids`.
        temperature: divides the inner products.
        symmetric: the mean of this and of the same from positives to queries, as CLIP has it; a query with the same positive text
            is no negative there.
        never: for each query further ids that are no negatives of it, such as its own text and its other positives; `NOTHING`
            fills up. None: none.

    Raises:
        BadInput: a positive is not among the passages.
    """
    scores = (queries @ passages.T).float()
    return score_nce(scores, positives, ids, temperature=temperature, symmetric=symmetric, never=never)


def score_nce(
    scores: Float[Tensor, "Q P"],
    positives: Int[Tensor, " Q"],
    ids: Int[Tensor, " P"],
    *,
    temperature: float | Tensor = 0.05,
    symmetric: bool = False,
    never: Int[Tensor, "Q K"] | None = None,
) -> Float[Tensor, ""]:
    """`info_nce` of scores that are no inner products of two vectors, such as that of a passage's best piece; errors as there."""
    counts = positives != NOTHING
    places = positives[counts]
    if len(places) and not (int(places.min()) >= 0 and int(places.max()) < scores.shape[1]):
        raise BadInput(f"A query's positive is none of the {scores.shape[1]} passages.")
    scores = scores[counts] / temperature
    rows = torch.arange(len(places), device=scores.device)
    wanted = ids[places]
    same = ids[None] == wanted[:, None]
    if never is not None:
        same |= (ids[None, :, None] == never[counts][:, None]).any(-1)
    same[rows, places] = False
    masked = scores.masked_fill(same | (ids == NOTHING)[None], -torch.inf)
    loss = torch.nn.functional.cross_entropy(masked, places, reduction="sum")
    if not symmetric:
        return loss
    back = scores[:, places].T  # positives by queries
    twins = wanted[:, None] == wanted[None]
    twins[rows, rows] = False
    other = torch.nn.functional.cross_entropy(back.masked_fill(twins, -torch.inf), rows, reduction="sum")
    return (loss + other) / 2


def text_ids(texts: Sequence[str]) -> Int[Tensor, " N"]:
    """A number for each text, the same for equal texts in every process; never `NOTHING`."""
    digests = (
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts
    )
    return torch.tensor([int.from_bytes(digest, "big") >> 1 for digest in digests], dtype=torch.long)


def share_of(rows: Sequence[T], process: int, processes: int, filler: T) -> list[T]:
    """The rows of a step that are a process's: consecutive ones, and as many for each, filled up with what counts for nothing.

    `gather` puts blocks behind each other in the order of the processes, so consecutive shares keep the order of one process.

    >>> [share_of([4, 7, 9], process, 2, NOTHING) for process in (0, 1)]
    [[4, 7], [9, -1]]
    """
    count = -(-len(rows) // processes)
    mine = list(rows[process * count : (process + 1) * count])
    return mine + [filler] * (count - len(mine))


def gather(block: Tensor) -> Tensor:
    """The blocks of all processes one below the other, in the order of their ranks; a gradient flows into the own one.

    Every process must call this with a block of the same shape. One process has its block back.
    """
    if not is_distributed():
        return block
    blocks = [torch.empty_like(block) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(blocks, block.detach().contiguous())
    blocks[torch.distributed.get_rank()] = block
    return torch.cat(blocks)


def offset_of(places: Int[Tensor, " Q"], rows: int) -> Int[Tensor, " Q"]:
    """Places in the own block of `rows` passages as places in what `gather` returns; `NOTHING` stays."""
    first = torch.distributed.get_rank() * rows if is_distributed() else 0
    return torch.where(places == NOTHING, places, places + first)


def cached_step(
    model: Any,
    encode: Callable[[Any], Float[Tensor, "n D"]],
    pieces: Sequence[Any],
    loss: Callable[[Float[Tensor, "N D"]], Float[Tensor, ""]],
    *,
    also: Sequence[Tensor] = (),
) -> Float[Tensor, ""]:
    """This process's part of a contrastive loss; its backward pass leaves the gradient of the whole loss for this process's pieces.

    Added up over processes, as `fit` does, parts and gradients are those of one process with the whole batch.

    Args:
        model: what `encode` calls, as `fit` hands it to a loss: it may be wrapped for several processes.
        encode: embeds a piece, with a graph where gradients are on.
        pieces: of the batch; each is embedded at once.
        loss: of the embeddings of all pieces, in their order; over several processes it gathers them, and is the same in each.
        also: further tensors in `loss` that are trained, such as a temperature.

    Raises:
        BadInput: there is no piece.
    """
    if not pieces:
        raise BadInput("There is nothing to embed.")
    states, blocks = [], []
    with torch.no_grad():
        for piece in pieces:
            states.append(_RandomState(model))
            blocks.append(encode(piece))
    embedded = torch.cat(blocks).detach()
    share = 1 / torch.distributed.get_world_size() if is_distributed() else 1.0
    if not torch.is_grad_enabled():
        return loss(embedded) * share
    with torch.enable_grad():
        embedded.requires_grad_()
        whole = loss(embedded)
        first, *others = torch.autograd.grad(whole, [embedded, *also])
    gradients = first.split([len(block) for block in blocks])

    def push(outer: Tensor) -> None:
        for i, (piece, state, gradient) in enumerate(zip(pieces, states, gradients, strict=True)):
            with own_gradients(model, is_kept=i < len(pieces) - 1), state.again(), torch.enable_grad():
                encode(piece).backward(gradient * outer)

    value: Tensor = _Cached.apply(
        whole.detach() * share, push, others, torch.zeros((), requires_grad=True), *also
    )
    return value


class _Cached(torch.autograd.Function):
    """A value whose backward pass embeds the pieces again."""

    @staticmethod
    def forward(
        ctx: Any,
        value: Tensor,
        push: Callable[[Tensor], None],
        others: Sequence[Tensor],
        start: Tensor,
        *also: Tensor,
    ) -> Tensor:
        ctx.push, ctx.others = push, others
        return value.clone()

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> Any:
        ctx.push(outer)
        return (None, None, None, None, *(gradient * outer for gradient in ctx.others))


class _RandomState:
    """Where the random numbers of a model's device stand."""

    def __init__(self, model: Any):
        device = next(model.parameters()).device
        self.devices = [device] if device.type == "cuda" else []
        self.cpu = torch.get_rng_state()
        self.cuda = [torch.cuda.get_rng_state(device) for device in self.devices]

    @contextmanager
    def again(self) -> Iterator[None]:
        """Inside the `with`, they come once more; afterwards they go on as if nothing had been drawn."""
        with torch.random.fork_rng(devices=self.devices):
            torch.set_rng_state(self.cpu)
            for device, state in zip(self.devices, self.cuda, strict=True):
                torch.cuda.set_rng_state(state, device)
            yield
