"""Heads of attention: which rows and columns of the layers around it belong to each of them.

A head goes physically when its queries, keys and values are no longer computed and the layer behind the attention no
longer reads it. Networks write attention in many ways. So whatever leads from linear layers to a softmax and from there
to a linear layer may be an attention, and is one if it computes, on random numbers, what attention of so many heads
computes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from safs_ray.activations.kinds import is_plain
from safs_ray.pruning.coupling import Coupling
from safs_ray.randomness import generator


class Attention(NamedTuple):
    """Self-attention or attention between inputs, in a graph of torch.fx.

    Attributes:
        rows: by name of each weight that computes queries, keys or values, the head of each of its outputs, from 0 on.
        projection: name of the weight that reads what the heads give.
        columns: the head of each of its inputs.
        tokens: how many places of one input the layers are used at.
        computed: names of the nodes that give queries, keys and values, in this order, or all three at once.
        attended: name of the node that gives what the projection reads; both are of one nn.MultiheadAttention where
            they are the same.
        width: channels of a head.
        order: how one node that gives all three lays them out.
    """

    rows: Mapping[str, Tensor]
    projection: str
    columns: Tensor
    tokens: int
    computed: tuple[str, ...]
    attended: str
    width: int
    order: str = ""

    @property
    def heads(self) -> int:
        return int(self.columns.max()) + 1


@dataclass(frozen=True)
class Heads:
    """The attentions of a network.

    Attributes:
        coupling: the heads as sets of channels that go together; set 0 are all channels that have no head.
    """

    attentions: tuple[Attention, ...]
    coupling: Coupling

    def kept(self, attention: Attention, masks: Mapping[str, Tensor]) -> Tensor:
        """Whether masks leave a way through each head of an attention (heads,); one stays where they leave none."""
        columns = attention.columns
        read = masks[attention.projection].any(0).cpu() if attention.projection in masks else columns >= 0
        kept = torch.zeros(attention.heads, dtype=torch.bool).index_put_((columns[read],), torch.tensor(True))
        kept[0] |= not kept.any()
        return kept


def heads_of(module: fx.GraphModule, example: Tensor) -> Heads:
    """The attentions that a network is known to have.

    Args:
        module: as torch.fx has traced it; it is left as it is.
        example: a batch that it accepts.

    Examples:
        >>> class Model(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        ...
        ...     def forward(self, tokens):
        ...         return self.attention(tokens, tokens, tokens, need_weights=False)[0]
        >>> heads_of(fx.symbolic_trace(Model()), torch.zeros(1, 3, 4)).attentions[0].columns
        tensor([0, 0, 1, 1])
    """
    found = list(_candidates(module))
    attentions: tuple[Attention, ...] = ()
    if found:
        values = _values(module, example, [node for each in found for node in each.nodes])
        attentions = tuple(each for each in (_known(module, candidate, values) for candidate in found) if each)
    return Heads(attentions, _coupled(module, attentions))


def _coupled(module: fx.GraphModule, attentions: Sequence[Attention]) -> Coupling:
    outputs: dict[str, Tensor] = {}
    inputs: dict[str, Tensor] = {}
    places: dict[str, int] = {}
    sets = 1
    for attention in attentions:
        for name, heads in attention.rows.items():
            outputs[name], inputs[name] = heads + sets, _staying(module.get_parameter(name).shape[1])
        name = attention.projection
        outputs[name], inputs[name] = _staying(module.get_parameter(name).shape[0]), attention.columns + sets
        places |= dict.fromkeys((*attention.rows, name), attention.tokens)
        sets += attention.heads
    return Coupling(outputs, inputs, normalisations={}, places=places, sets=sets)


def _staying(count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.int64)


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


class _Candidate(NamedTuple):
    """What may be an attention.

    Attributes:
        sources: the linear layers before it, or the nn.MultiheadAttention.
        scored: gives the scores after their softmax, or the values that they weigh, by heads; itself where that is one.
        attended: what the projection reads.
        projection: the linear layer behind it.
    """

    sources: tuple[fx.Node, ...]
    scored: fx.Node
    attended: fx.Node
    projection: fx.Node

    @property
    def nodes(self) -> tuple[fx.Node, ...]:
        return (*self.sources, self.scored, self.attended)


def _candidates(module: fx.GraphModule) -> Iterator[_Candidate]:
    calls = [node for node in module.graph.nodes if node.op == "call_module"]
    once = {node for node in calls if sum(other.target == node.target for other in calls) == 1}
    for node in calls:
        if node in once and _is_layer(module, node, nn.MultiheadAttention) and _attends_plainly(module, node):
            yield _Candidate((node,), node, node, node)
        elif node in once and _is_layer(module, node, nn.Linear) and len(node.all_input_nodes) == 1:
            attended = node.all_input_nodes[0]
            between = _between(module, attended)
            sources = tuple(sorted(each for each in between if each in once and _is_layer(module, each, nn.Linear)))
            inner = between - set(sources)
            scored = [each for each in inner if _scores(module, each)]
            if len(sources) in (1, 3) and len(scored) == 1 and _is_apart({*inner, *sources}, node):
                yield _Candidate(sources, scored[0], attended, node)


def _is_layer(module: fx.GraphModule, node: fx.Node, kind: type[nn.Module]) -> bool:
    return node.op == "call_module" and is_plain(module.get_submodule(str(node.target)), kind)


def _attends_plainly(module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether an nn.MultiheadAttention takes no masks, and nothing reads its weights."""
    layer = module.get_submodule(str(node.target))
    assert isinstance(layer, nn.MultiheadAttention)
    plain = layer._qkv_same_embed_dim and layer.bias_k is None and not layer.add_zero_attn and not layer.dropout
    others = [value for name, value in node.kwargs.items() if name not in ("need_weights", "average_attn_weights")]
    first_alone = all(user.args[1:] == (0,) or not user.users for user in node.users)
    return plain and first_alone and len(node.args) == 3 and not any(others)


def _between(module: fx.GraphModule, attended: fx.Node) -> set[fx.Node]:
    """The nodes from linear layers on that lead to another; empty where something else does, too."""
    found: set[fx.Node] = set()
    ahead = [attended]
    while ahead:
        node = ahead.pop()
        if node in found:
            continue
        found.add(node)
        if node.op not in ("call_module", "call_function", "call_method"):
            return set()
        if _is_layer(module, node, nn.Linear):
            continue
        if node.op == "call_module" and next(module.get_submodule(str(node.target)).parameters(), None) is not None:
            return set()
        ahead += [each for each in node.all_input_nodes if not _is_size(each)]
    return found


def _is_size(node: fx.Node) -> bool:
    """Whether a node gives a size, or sizes, of a tensor, or what is computed of them."""
    if node.target == "size" or (node.target is getattr and node.args[1] == "shape"):
        return True
    return bool(node.all_input_nodes) and all(_is_size(each) for each in node.all_input_nodes)


def _scores(module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node weighs one thing against others."""
    if node.op == "call_module":
        return is_plain(module.get_submodule(str(node.target)), nn.Softmax)
    return getattr(node.target, "__name__", node.target) in ("softmax", "scaled_dot_product_attention")


def _is_apart(nodes: set[fx.Node], reader: fx.Node) -> bool:
    """Whether nothing outside but one reads these nodes."""
    return all(user in nodes or user is reader or _is_size(user) for node in nodes for user in node.users)


@torch.no_grad()
def _values(module: fx.GraphModule, example: Tensor, nodes: Sequence[fx.Node]) -> dict[fx.Node, Tensor]:
    """What nodes give in float64 where every linear layer gives random numbers; none where the network fails."""
    draws, wanted, values = generator(0, "attention"), set(nodes), dict[fx.Node, Tensor]()
    exact = copy.deepcopy(module).eval().double()

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if n.op == "call_module" and isinstance(exact.get_submodule(str(n.target)), nn.Linear):
                value = torch.randn(value.shape, generator=draws, dtype=torch.float64)
            if n.name in names:
                values[names[n.name]] = value
            return value

    names = {node.name: node for node in wanted}
    try:
        Recorder(exact).run(example.double() if example.is_floating_point() else example)
    except Exception:  # a user's network may hold to its own types
        return {}
    return values


def _known(module: fx.GraphModule, candidate: _Candidate, values: Mapping[fx.Node, Tensor]) -> Attention | None:
    """The attention that a candidate is; None where it is none, or one of another kind."""
    if not values:
        return None
    if candidate.projection in candidate.sources:
        return _of_multihead(module, candidate.projection, values)
    attended = values[candidate.attended]
    scored, computed = values[candidate.scored], [values[source] for source in candidate.sources]
    if scored.dim() != 4 or any(each.dim() != 3 for each in (attended, *computed)):
        return None
    heads, channels = scored.shape[1], attended.shape[2]
    if any(each.shape[2] * len(computed) != 3 * channels for each in computed) or channels % heads:
        return None
    width = channels // heads
    orders = ("",) if len(computed) == 3 else (PARTS_FIRST, HEADS_FIRST)
    for order in orders:
        for places in permutations(range(len(computed))):
            given = Attend(width, order)(*(computed[place] for place in places))
            if given.shape == attended.shape and torch.allclose(given, attended, rtol=1e-9, atol=1e-9):
                sources = [candidate.sources[place] for place in places]
                return Attention(
                    rows={f"{source.target}.weight": _heads(heads, width, order) for source in sources},
                    projection=f"{candidate.projection.target}.weight",
                    columns=_heads(heads, width),
                    tokens=attended.shape[1],
                    computed=tuple(source.name for source in sources),
                    attended=candidate.attended.name,
                    width=width,
                    order=order,
                )
    return None


def _of_multihead(module: fx.GraphModule, node: fx.Node, values: Mapping[fx.Node, Any]) -> Attention | None:
    layer = module.get_submodule(str(node.target))
    assert isinstance(layer, nn.MultiheadAttention)
    output = values[node][0]
    if output.dim() != 3:
        return None
    return Attention(
        rows={f"{node.target}.in_proj_weight": _heads(layer.num_heads, layer.head_dim, PARTS_FIRST)},
        projection=f"{node.target}.out_proj.weight",
        columns=_heads(layer.num_heads, layer.head_dim),
        tokens=output.shape[1 if layer.batch_first else 0],
        computed=(node.name,),
        attended=node.name,
        width=layer.head_dim,
    )


def _heads(count: int, width: int, order: str = "") -> Tensor:
    """The head of each channel."""
    once = torch.arange(count)
    if order == PARTS_FIRST:
        return once.repeat_interleave(width).repeat(3)
    return once.repeat_interleave(width * (3 if order == HEADS_FIRST else 1))
