"""Heads of attention: which rows and columns of the layers around it belong to each of them.

A head goes physically when its queries, keys and values are no longer computed and the layer behind the attention no
longer reads it. Networks write attention in many ways. So whatever leads from linear layers to a softmax and from there
to a linear layer, by steps that move, scale and weigh alone, may be an attention, and is one if it computes, on random
numbers, what attention of so many heads computes.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from safs_ray.activations.kinds import is_plain
from safs_ray.pruning.coupling import Coupling, shared_layers, staying
from safs_ray.randomness import generator


class Attention(NamedTuple):
    """Self-attention or attention between inputs, in a graph of torch.fx.

    Attributes:
        rows: by name of each weight that computes queries, keys or values, the head of each of its outputs, from 0 on.
        projection: name of the weight that reads what the heads give.
        columns: the head of each of its inputs.
        places: by name of each of these weights, how many places of its output it is used at, for one input; of one
            that computes all three from several inputs the mean.
        computed: names of the nodes that give queries, keys and values, in this order, or all three at once.
        width: channels of a head.
        between: names of the nodes behind them up to the projection, and of the sizes that only these read, in their
            order; none of an nn.MultiheadAttention.
        attended: name of the one that gives what the projection reads.
        order: how one node that gives all three lays them out.
    """

    rows: Mapping[str, Tensor]
    projection: str
    columns: Tensor
    places: Mapping[str, float]
    computed: tuple[str, ...]
    width: int
    between: tuple[str, ...] = ()
    attended: str = ""
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
        values = _values(module, example, [node for each in found for node in each.wanted])
        attentions = tuple(each for each in (_known(module, candidate, values) for candidate in found) if each)
    return Heads(attentions, _coupled(module, attentions))


def _coupled(module: fx.GraphModule, attentions: Sequence[Attention]) -> Coupling:
    outputs: dict[str, Tensor] = {}
    inputs: dict[str, Tensor] = {}
    places: dict[str, float] = {}
    sets = 1
    for attention in attentions:
        for name, heads in attention.rows.items():
            outputs[name], inputs[name] = heads + sets, staying(module.get_parameter(name).shape[1])
        name = attention.projection
        outputs[name], inputs[name] = staying(module.get_parameter(name).shape[0]), attention.columns + sets
        places |= attention.places
        sets += attention.heads
    return Coupling(outputs, inputs, normalisations={}, places=places, sets=sets)


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
        between: the nodes from the sources to the projection, and the sizes that only they read, in their order.
    """

    sources: tuple[fx.Node, ...]
    scored: fx.Node
    attended: fx.Node
    projection: fx.Node
    between: tuple[fx.Node, ...] = ()

    @property
    def wanted(self) -> tuple[fx.Node, ...]:
        """The nodes whose values tell whether it is one."""
        taken = self.projection.args if self.projection in self.sources else ()
        return (*self.sources, self.scored, self.attended, *(each for each in taken if isinstance(each, fx.Node)))


def _candidates(module: fx.GraphModule) -> Iterator[_Candidate]:
    own = _own_layers(module)
    for node in module.graph.nodes:
        layer = own.get(node)
        if isinstance(layer, nn.MultiheadAttention) and _attends_plainly(layer, node):
            yield _Candidate((node,), node, node, node)
        elif isinstance(layer, nn.Linear) and len(node.all_input_nodes) == 1:
            attended = node.all_input_nodes[0]
            led = _leading_to(module, attended)
            sources = tuple(sorted(each for each in led if isinstance(own.get(each), nn.Linear)))
            inner = led - set(sources)
            scored = [each for each in inner if _scores(module, each)]
            between = _with_sizes({*inner, *sources}, node)
            if len(sources) in (1, 3) and len(scored) == 1 and between is not None:
                yield _Candidate(sources, scored[0], attended, node, tuple(sorted(between - set(sources))))


def _own_layers(module: fx.GraphModule) -> dict[fx.Node, nn.Module]:
    """Linear layers and attentions of torch that are applied once, and whose tensors nothing else is or reads."""
    shared = shared_layers(module)
    called = [node for node in module.graph.nodes if node.op == "call_module" and node.target not in shared]
    layers = {node: module.get_submodule(str(node.target)) for node in called}
    kinds = (nn.Linear, nn.MultiheadAttention)
    return {node: layer for node, layer in layers.items() if any(is_plain(layer, kind) for kind in kinds)}


def _attends_plainly(layer: nn.MultiheadAttention, node: fx.Node) -> bool:
    """Whether an nn.MultiheadAttention takes no masks, and nothing reads its weights."""
    plain = bool(layer._qkv_same_embed_dim) and layer.bias_k is None and not layer.add_zero_attn and not layer.dropout
    others = [value for name, value in node.kwargs.items() if name not in ("need_weights", "average_attn_weights")]
    first_alone = all(user.target is operator.getitem and (user.args[1] == 0 or not user.users) for user in node.users)
    return plain and first_alone and len(node.args) == 3 and not any(others)


MOVING = {
    "view", "reshape", "permute", "transpose", "swapaxes", "swapdims", "movedim", "unflatten", "flatten", "contiguous",
    "unbind", "chunk", "split", "tensor_split", "getitem", "squeeze", "unsqueeze",
}  # fmt: skip
"""Functions and methods that move values of one tensor, or take some of them."""

SCALING = {"mul", "truediv", "div"}
"""Those that scale by a number."""

WEIGHING = {"matmul", "bmm", "softmax", "scaled_dot_product_attention"}
"""Those that an attention is made of."""


def _leading_to(module: fx.GraphModule, attended: fx.Node) -> set[fx.Node]:
    """The nodes from linear layers on that lead to another; empty where some do what no plain attention does."""
    found: set[fx.Node] = set()
    ahead = [attended]
    while ahead:
        node = ahead.pop()
        if node in found:
            continue
        found.add(node)
        tensors = [each for each in node.all_input_nodes if not _is_size(each)]
        if node.op == "call_module":
            layer = module.get_submodule(str(node.target))
            if isinstance(layer, nn.Linear):
                continue
            dropping = is_plain(layer, nn.Dropout) and getattr(layer, "p", 1.0) == 0
            if not (dropping or is_plain(layer, nn.Softmax) or is_plain(layer, nn.Identity)):
                return set()
        elif not _is_step(node, len(tensors)):
            return set()
        ahead += tensors
    return found


def _is_step(node: fx.Node, tensors: int) -> bool:
    """Whether a function or method may be a step of an attention: it moves, scales or weighs, and nothing in place."""
    if node.op not in ("call_function", "call_method"):
        return False
    name = _name(node)
    if node.target is getattr:
        return bool(node.args[1] == "mT")
    return name in WEIGHING or (name in MOVING | SCALING and tensors == 1)


def _is_size(node: fx.Node) -> bool:
    """Whether a node gives sizes of a tensor, or numbers that are computed of them."""
    if node.target == "size" or (node.target is getattr and node.args[1] == "shape"):
        return True
    computes = node.op == "call_function" and getattr(node.target, "__module__", "") == "_operator"
    return computes and bool(node.all_input_nodes) and all(_is_size(each) for each in node.all_input_nodes)


def _scores(module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node weighs one thing against others."""
    if node.op == "call_module":
        return is_plain(module.get_submodule(str(node.target)), nn.Softmax)
    return _name(node) in ("softmax", "scaled_dot_product_attention")


def _name(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target))


def _with_sizes(nodes: set[fx.Node], reader: fx.Node) -> set[fx.Node] | None:
    """Nodes and the sizes of them that only they read; None where anything else but one reader reads some."""
    found = set(nodes)
    ahead = list(nodes)
    while ahead:
        for user in ahead.pop().users:
            if user in found or user is reader:
                continue
            if not _is_size(user) or user.op == "output":
                return None
            found.add(user)
            ahead.append(user)
    return found


def _values(module: fx.GraphModule, example: Tensor, nodes: Sequence[fx.Node]) -> dict[fx.Node, Any]:
    """What nodes give in float64 where every linear layer gives random numbers; none where the network fails.

    Of a number of inputs that no size is mistaken for.
    """
    draws, names, values = generator(0, "attention"), {node.name: node for node in nodes}, dict[fx.Node, Any]()
    exact = copy.deepcopy(module).eval().double()
    inputs = example[:1].expand(INPUTS, *example.shape[1:])

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if n.op == "call_module" and isinstance(exact.get_submodule(str(n.target)), nn.Linear):
                value = torch.randn(value.shape, generator=draws, dtype=torch.float64)
            if n.name in names:
                values[names[n.name]] = value.clone() if isinstance(value, Tensor) else value
            return value

    try:
        with torch.no_grad():
            Recorder(exact).run(inputs.double() if inputs.is_floating_point() else inputs)
    except Exception:  # a user's network may hold to its own types
        return {}
    return values


INPUTS = 7


def _known(module: fx.GraphModule, candidate: _Candidate, values: Mapping[fx.Node, Any]) -> Attention | None:
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
    for order in ("",) if len(computed) == 3 else (PARTS_FIRST, HEADS_FIRST):
        for places in permutations(range(len(computed))):
            given = Attend(width, order)(*(computed[place] for place in places))
            if given.shape == attended.shape and torch.allclose(given, attended, rtol=1e-9, atol=1e-9):
                sources = [candidate.sources[place] for place in places]
                weights = {f"{source.target}.weight": source for source in sources}
                projection = f"{candidate.projection.target}.weight"
                return Attention(
                    rows={name: _heads(heads, width, order) for name in weights},
                    projection=projection,
                    columns=_heads(heads, width),
                    places={
                        **{name: _places(values[source]) for name, source in weights.items()},
                        projection: _places(attended),
                    },
                    computed=tuple(source.name for source in sources),
                    width=width,
                    between=tuple(node.name for node in candidate.between),
                    attended=candidate.attended.name,
                    order=order,
                )
    return None


def _of_multihead(module: fx.GraphModule, node: fx.Node, values: Mapping[fx.Node, Any]) -> Attention | None:
    layer = module.get_submodule(str(node.target))
    assert isinstance(layer, nn.MultiheadAttention)
    taken = [values[each] for each in node.args if isinstance(each, fx.Node)]
    if any(each.dim() != 3 for each in taken) or len(taken) != 3:
        return None
    places = [_places(each) for each in taken]
    return Attention(
        rows={f"{node.target}.in_proj_weight": _heads(layer.num_heads, layer.head_dim, PARTS_FIRST)},
        projection=f"{node.target}.out_proj.weight",
        columns=_heads(layer.num_heads, layer.head_dim),
        places={f"{node.target}.in_proj_weight": sum(places) / 3, f"{node.target}.out_proj.weight": places[0]},
        computed=(node.name,),
        width=layer.head_dim,
    )


def _places(value: Tensor) -> float:
    """How many places a value has for one input, each of all its channels."""
    return value.numel() / value.shape[-1] / INPUTS


def _heads(count: int, width: int, order: str = "") -> Tensor:
    """The head of each channel."""
    once = torch.arange(count)
    if order == PARTS_FIRST:
        return once.repeat_interleave(width).repeat(3)
    return once.repeat_interleave(width * (3 if order == HEADS_FIRST else 1))
