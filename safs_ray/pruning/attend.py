"""Attention of some heads, as the modules that compute it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class Attend(nn.Module):
    """Attention of some heads, between queries, keys and values that are computed already.

    Args:
        width: channels of a head.
        order: as that of :class:`Attention`.

    Shapes: (N, tokens, 3 * heads * width), or three of (N, tokens, heads * width), to (N, tokens, heads * width).
    """

    def __init__(self, width: int, order: str) -> None:
        super().__init__()
        self.width, self.order = width, order

    def forward(self, *computed: Tensor) -> Tensor:
        parts = computed if len(computed) > 1 else self._parts(*computed)
        query, key, value = (part.view(*part.shape[:2], -1, self.width).transpose(1, 2) for part in parts)
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)

    def _parts(self, together: Tensor) -> Sequence[Tensor]:
        if self.order == PARTS_FIRST:
            return together.chunk(3, dim=2)
        return [part.flatten(2) for part in together.view(*together.shape[:2], -1, 3, self.width).unbind(3)]


PARTS_FIRST, HEADS_FIRST = "queries of all heads, then keys, then values", "all of a head, then of the next"


class FewerHeads(nn.Module):
    """What is left of an nn.MultiheadAttention without some of its heads; its parameters keep their names.

    Args:
        kept: whether each head stays (heads,), at least one.
    """

    def __init__(self, whole: nn.MultiheadAttention, kept: Tensor) -> None:
        super().__init__()
        self.batch_first = whole.batch_first
        self._attend = Attend(whole.head_dim, PARTS_FIRST)
        columns = kept.repeat_interleave(whole.head_dim)
        self.in_proj_weight = nn.Parameter(whole.in_proj_weight[columns.repeat(3)])
        self.in_proj_bias = None if whole.in_proj_bias is None else nn.Parameter(whole.in_proj_bias[columns.repeat(3)])
        self.out_proj = nn.Linear(int(columns.sum()), whole.embed_dim, bias=whole.out_proj.bias is not None)
        self.out_proj.weight = nn.Parameter(whole.out_proj.weight[:, columns])
        self.out_proj.bias = whole.out_proj.bias

    def forward(self, *inputs: Tensor, **_: object) -> tuple[Tensor, None]:
        """From queries, keys and values as the whole module takes them, with no masks among the rest."""
        biases = [None] * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        computed = [
            F.linear(each if self.batch_first else each.transpose(0, 1), weight, bias)
            for each, weight, bias in zip(inputs[:3], self.in_proj_weight.chunk(3), biases, strict=True)
        ]
        output = self.out_proj(self._attend(*computed))
        return output if self.batch_first else output.transpose(0, 1), None
