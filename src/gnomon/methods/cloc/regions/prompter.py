"""The Prompter: one light layer that turns the tokens of an image and a prompt, a box or a phrase, into an embedding."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gnomon.methods.cloc.training.options import Shape


def sinusoid(values: Float[Tensor, ...], channels: int) -> Float[Tensor, "... C"]:
    """Sine and cosine of numbers in 0..1, in wavelengths from 2 pi / 100 to 200 pi.

    >>> sinusoid(torch.tensor([0.0]), 4).tolist()
    [[0.0, 0.0, 1.0, 1.0]]
    """
    half = channels // 2
    rates = 100.0 * torch.exp(-math.log(10_000.0) * torch.arange(half, device=values.device) / half)
    angles = values[..., None].float() * rates
    encoded = torch.cat([angles.sin(), angles.cos()], -1)
    return torch.nn.functional.pad(encoded, (0, channels - 2 * half))


def points(xy: Float[Tensor, "... 2"], channels: int) -> Float[Tensor, "... C"]:
    """Points of the input, x and y in 0..1: half of the channels each."""
    x, y = (sinusoid(xy[..., i], channels // 2) for i in range(2))
    return torch.nn.functional.pad(torch.cat([x, y], -1), (0, channels - 2 * (channels // 2)))


class Prompter(nn.Module):
    """One layer of a transformer encoder before a mean and a linear map.

    Args:
        width: channels of image tokens, d.
        joint: channels of the embeddings, D.
        shape: how it is built.

    Source: arXiv 2410.02746, section 4. Differs: the two corners have learnt offsets, which begin at 0.
    """

    def __init__(self, width: int, joint: int, shape: Shape | None = None):
        super().__init__()
        self.shape, self.width, self.joint = shape or Shape(), width, joint
        self.norm_in, self.norm_mlp, self.norm_out = (nn.LayerNorm(width) for _ in range(3))
        self.query, self.key, self.value, self.mix = (nn.Linear(width, width) for _ in range(4))
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.project = nn.Linear(width, joint, bias=False)
        self.phrase = nn.Linear(joint, width)
        self.corner = nn.Parameter(torch.zeros(2, width))
        last = nn.Linear(joint, 4)
        nn.init.normal_(last.weight, std=0.02)
        nn.init.constant_(last.bias, 0.5)  # the middle of the image
        self.head = nn.Sequential(nn.Linear(joint, joint), nn.GELU(), last)

    def box_prompts(self, boxes: Float[Tensor, "... 4"]) -> Float[Tensor, "... P d"]:
        """Prompt tokens of boxes, corners in shares of the input."""
        two = (
            torch.stack([points(boxes[..., :2], self.width), points(boxes[..., 2:], self.width)], -2)
            + self.corner
        )
        tokens = two if self.shape.corners == "two" else two.mean(-2, keepdim=True)
        return tokens.to(self.phrase.weight.dtype)

    def phrase_prompts(self, texts: Float[Tensor, "... D"]) -> Float[Tensor, "... 1 d"]:
        """Prompt tokens of phrases: unit embeddings of the text tower, mapped to the tokens' width."""
        tokens: Tensor = self.phrase(texts.to(self.phrase.weight.dtype))[..., None, :]
        return tokens

    def forward(
        self, prompts: Float[Tensor, "B K P d"], tokens: Float[Tensor, "B T d"]
    ) -> Float[Tensor, "B K D"]:
        """The embedding of each prompt on its image.

        With `pool="prompt"` keys and values of the image are computed once for all prompts, whose own tokens alone are queries:
        O(K T). With `pool="all"` each prompt is read with all of the image's tokens.

        Args:
            prompts: K of each image; rows that stand for nothing may hold anything.
            tokens: of the images.
        """
        if self.shape.pool == "all":
            return self._all(prompts, tokens)
        B, K, P, d = prompts.shape
        image, own = self.norm_in(tokens), self.norm_in(prompts)
        query = self._split(self.query(own).reshape(B, K * P, d))  # [B, H, K P, e]
        keys, values = self._split(self.key(image)), self._split(self.value(image))
        own_keys, own_values = (
            self._split(part(own).reshape(B, K * P, d)).reshape(B, -1, K, P, d // self.shape.heads)
            for part in (self.key, self.value)
        )
        scale = (d // self.shape.heads) ** -0.5
        across = (query @ keys.transpose(-1, -2)) * scale  # [B, H, K P, T]
        mine = query.reshape(own_keys.shape) @ own_keys.transpose(-1, -2) * scale  # [B, H, K, P, P]
        shares = torch.cat([across, mine.reshape(B, -1, K * P, P)], -1).softmax(-1)
        T = tokens.shape[1]
        mixed = shares[..., :T] @ values
        mixed = mixed + (shares[..., T:].reshape(mine.shape) @ own_values).reshape(mixed.shape)
        joined = mixed.transpose(1, 2).reshape(B, K, P, d)
        states = self._finish(prompts + self.mix(joined))
        projected: Tensor = self.project(states.mean(-2))
        return projected

    def regions(
        self,
        tokens: Float[Tensor, "B T d"],
        boxes: Float[Tensor, "R 4"],
        image_of: Int[Tensor, " R"],
        texts: Float[Tensor, "R D"],
    ) -> tuple[Float[Tensor, "R D"], Float[Tensor, "R D"], Float[Tensor, "R 4"]]:
        """Unit embeddings of regions and their texts, and the boxes that the texts give.

        Args:
            tokens: of the images.
            boxes: corners in shares of the input, in the order of their images.
            image_of: which image each is of, rising.
            texts: unit embeddings of the regions' texts.
        """
        own, is_row = by_image(boxes, image_of, len(tokens))
        phrases, _ = by_image(texts, image_of, len(tokens))
        embeds = self(self.box_prompts(own), tokens)[is_row]
        predicted = self.boxes_of(self(self.phrase_prompts(phrases), tokens)[is_row])
        return nn.functional.normalize(embeds.float(), dim=-1), texts, predicted

    def _all(
        self, prompts: Float[Tensor, "B K P d"], tokens: Float[Tensor, "B T d"]
    ) -> Float[Tensor, "B K D"]:
        B, K, _P, d = prompts.shape
        repeated = tokens[:, None].expand(B, K, -1, d)
        rows = torch.cat([prompts, repeated], 2).reshape(B * K, -1, d)
        normed = self.norm_in(rows)
        query, keys, values = (self._split(part(normed)) for part in (self.query, self.key, self.value))
        mixed = torch.nn.functional.scaled_dot_product_attention(query, keys, values)
        states = self._finish(rows + self.mix(mixed.transpose(1, 2).reshape(rows.shape)))
        projected: Tensor = self.project(states.mean(1))
        return projected.reshape(B, K, -1)

    def _finish(self, states: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        states = states + self.mlp(self.norm_mlp(states))
        finished: Tensor = self.norm_out(states)
        return finished

    def _split(self, rows: Float[Tensor, "B N d"]) -> Float[Tensor, "B H N e"]:
        B, N, d = rows.shape
        return rows.reshape(B, N, self.shape.heads, d // self.shape.heads).transpose(1, 2)

    def boxes_of(self, phrases: Float[Tensor, "... D"]) -> Float[Tensor, "... 4"]:
        """The box that a phrase's embedding stands for, corners in shares of the input; they may stick out or be exchanged."""
        boxes: Tensor = self.head(phrases)
        return boxes


def by_image(
    rows: Float[Tensor, "R ..."], image_of: Int[Tensor, " R"], images: int
) -> tuple[Float[Tensor, "B K ..."], Bool[Tensor, "B K"]]:
    """Rows of several images as a block, padded with zeros; and which of it are rows (True). Rows of an image keep their order."""
    counts = torch.bincount(image_of, minlength=images)
    order = torch.argsort(image_of, stable=True)
    most = max(int(counts.max()), 1) if len(image_of) else 1
    block = rows.new_zeros((images, most, *rows.shape[1:]))
    is_row = torch.arange(most, device=rows.device)[None] < counts[:, None]
    block[is_row] = rows[order]
    return block, is_row
