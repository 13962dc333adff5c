"""What may be an attention in a graph: steps from linear layers to a softmax and from there to a linear layer."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import NamedTuple

from torch import fx, nn

from safs_ray.activations.kinds import is_plain
from safs_ray.pruning.coupling import shared_layers


class Candidate(NamedTuple):
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


def candidates(module: fx.GraphModule) -> Iterator[Candidate]:
    """What may be an attention, by the steps between the layers of a traced network alone."""
    own = _own_layers(module)
    for node in module.graph.nodes:
        layer = own.get(node)
        if isinstance(layer, nn.MultiheadAttention) and _attends_plainly(layer, node):
            yield Candidate((node,), node, node, node)
        elif isinstance(layer, nn.Linear) and len(node.all_input_nodes) == 1:
            attended = node.all_input_nodes[0]
            led = _leading_to(module, attended)
            sources = tuple(sorted(each for each in led if isinstance(own.get(each), nn.Linear)))
            inner = led - set(sources)
            scored = [each for each in inner if _scores(module, each)]
            between = _with_sizes({*inner, *sources}, node)
            if len(sources) in (1, 3) and len(scored) == 1 and between is not None:
                yield Candidate(sources, scored[0], attended, node, tuple(sorted(between - set(sources))))


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
