"""A network as an ONNX file that is about as small as its nonzeros.

A tensor of which most is zero is a constant with a ``sparse_value``: its nonzeros, and their places in the flattened
tensor. The graph's own list of sparse tensors is something else, which few programs read, and optimizers drop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    import onnx

INDEX_BYTES, ENTRY = 8, 120
"""Of a nonzero's place, and about those that one more constant takes."""


def convert(program: torch.export.ExportedProgram, name: str, remarks: dict[str, str]) -> onnx.ModelProto:
    """A program as a model of ONNX's standard operations, with every zero stored.

    Args:
        name: of its input.
        remarks: texts that the file shall hold, by name.
    """
    import onnx
    from onnxscript import opset18 as ops

    converted = torch.onnx.export(
        program,
        input_names=[name],
        output_names=["logits"],
        dynamic_shapes={"images": {0: "batch"}},
        # torch's own is the logarithm of a sigmoid, which is minus infinity below -104
        custom_translation_table={torch.ops.aten.log_sigmoid.default: lambda z: ops.Neg(ops.Softplus(ops.Neg(z)))},
        verbose=False,
    )
    assert converted is not None
    model = converted.model_proto
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output, model.graph):
        part.ClearField("metadata_props")  # where the code lay on this machine
    onnx.helper.set_model_props(model, remarks)
    onnx.checker.check_model(model)
    return model


def store_nonzeros(model: onnx.ModelProto) -> None:
    """Store tensors of a model by their nonzeros wherever that is smaller."""
    import onnx

    graph, constants, dense = model.graph, [], []
    for tensor in graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if np.count_nonzero(array) * (array.itemsize + INDEX_BYTES) + ENTRY < array.nbytes:
            value = _sparse(array, tensor.name)
            constants.append(onnx.helper.make_node("Constant", [], [tensor.name], tensor.name, sparse_value=value))
        else:
            dense.append(tensor)
    nodes = [*constants, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(dense)
    graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)


def _sparse(array: np.ndarray, name: str) -> onnx.SparseTensorProto:
    import onnx

    places = np.flatnonzero(array)
    values = onnx.numpy_helper.from_array(array.ravel()[places], name)
    return onnx.helper.make_sparse_tensor(values, onnx.numpy_helper.from_array(places.astype(np.int64)), array.shape)
