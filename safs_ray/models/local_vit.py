"""LocalViT-T (Li et al. 2021): a vision transformer whose feed-forward layers look at each token's neighbours."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from safs_ray.models.convolutional import SMALL
from safs_ray.models.specification import Specification

WIDTH, HEADS, DEPTH, EXPANSION = 192, 4, 12, 4


def localvit_t(specification: Specification) -> nn.Module:
    """LocalViT-T with h-swish and squeeze-excitation, of patches of 16 pixels, or of 4 below 64 pixels.

    22 sites beside the squeeze-excitation blocks: two in each feed-forward layer. There is no dropout: it would
    draw from the global generator.
    """
    height, width = specification.sides()
    patch = 4 if min(height, width) < SMALL else 16
    specification.require(height % patch == width % patch == 0, f"a multiple of {patch} pixels")
    return LocalViT(specification.channels, (height // patch, width // patch), specification.outputs, patch)


class LocalViT(nn.Module):
    """Images (N, channels, H, W) to outputs (N, outputs), which are read from a class token.

    The published network has a feed-forward layer in its last block too. Only image tokens pass through it, and
    nothing reads them any more, so it is left out: the logits are the same without it.
    """

    def __init__(self, channels: int, sides: tuple[int, int], outputs: int, patch: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, WIDTH, patch, stride=patch)
        self.token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.position = nn.Parameter(torch.zeros(1, 1 + sides[0] * sides[1], WIDTH))
        self.blocks = nn.Sequential(*(Block(sides) for _ in range(DEPTH - 1)))
        self.attention = SelfAttention()
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.head = nn.Linear(WIDTH, outputs)
        for parameter in (self.token, self.position):
            nn.init.trunc_normal_(parameter, std=0.02)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.token.expand(images.shape[0], -1, -1), patches), dim=1) + self.position
        tokens = self.attention(self.blocks(tokens))
        logits: Tensor = self.head(self.norm(tokens[:, 0]))
        return logits


class Block(nn.Module):
    """Self-attention over all tokens (N, 1 + rows * columns, WIDTH), then the feed-forward layer over the image's."""

    def __init__(self, sides: tuple[int, int]) -> None:
        super().__init__()
        self.sides = sides
        self.attention = SelfAttention()
        self.feed_forward = _feed_forward()

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = self.attention(tokens)
        image = tokens[:, 1:].transpose(1, 2).unflatten(2, self.sides)  # type: ignore[no-untyped-call]
        image = image + self.feed_forward(image)
        return torch.cat((tokens[:, :1], image.flatten(2).transpose(1, 2)), dim=1)


class SelfAttention(nn.Module):
    """Tokens (N, T, WIDTH) and what each of them attends to, added up."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.query_key_value = nn.Linear(WIDTH, 3 * WIDTH)
        self.projection = nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        heads = self.query_key_value(self.norm(tokens)).unflatten(2, (3, HEADS, WIDTH // HEADS))
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        attention = (query @ key.transpose(2, 3) * (WIDTH // HEADS) ** -0.5).softmax(dim=3)
        attended: Tensor = self.projection((attention @ value).transpose(1, 2).flatten(2))
        return tokens + attended


def _feed_forward() -> nn.Sequential:
    """An inverted residual block (Sandler et al. 2018) with squeeze-excitation to WIDTH times fewer channels."""
    from torchvision.ops import SqueezeExcitation

    hidden = EXPANSION * WIDTH
    return nn.Sequential(
        OrderedDict(
            expand=nn.Conv2d(WIDTH, hidden, 1, bias=False),
            norm1=nn.BatchNorm2d(hidden),
            act1=nn.Hardswish(),
            depthwise=nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False),
            norm2=nn.BatchNorm2d(hidden),
            act2=nn.Hardswish(),
            excitation=SqueezeExcitation(hidden, hidden // WIDTH, scale_activation=nn.Hardsigmoid),
            project=nn.Conv2d(hidden, WIDTH, 1, bias=False),
            norm3=nn.BatchNorm2d(WIDTH),
        )
    )
