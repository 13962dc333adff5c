"""The files that a network can be exported to."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from safs_ray.config import refusal
from safs_ray.export import sparse_file
from safs_ray.export.slim import deploy
from safs_ray.models import Specification
from safs_ray.network import Network
from safs_ray.references import is_lent
from safs_ray.sparse.execution import executable

Predict = Callable[[Tensor], Tensor]
"""uint8 images (N, C, H, W) to logits (N, classes)."""


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Attributes:
        file: its name in the folder of an export.
        packages: what must be installed beside safs_ray to write it.
        write: the file's content for a network, and what it had to change or keep, a clause, mostly empty.
        load: what the content computes, by the program that it is made for.
        usage: code that runs it, for the model card.
    """

    file: str
    packages: tuple[str, ...]
    write: Callable[[Network], tuple[bytes, str]]
    load: Callable[[bytes], Predict]
    usage: str


def find(name: str) -> Format:
    """The format of a name.

    Raises:
        ConfigurationError: there is none, or a package that it needs is not installed.
    """
    if name not in FORMATS:
        raise refusal("format", name, f"allowed: {', '.join(FORMATS)}")
    format = FORMATS[name]
    for package in format.packages:
        try:
            importlib.import_module(package)
        except ImportError:
            needs = f"needs the packages {', '.join(format.packages)}; pip install 'safs_ray[export]'"
            raise refusal("format", name, needs) from None
    return format


def describe(specification: Specification) -> dict[str, str]:
    """What a file takes and gives, for people who have only the file."""
    size = specification.size
    return {
        "input": f"images: uint8 (N, {specification.channels}, {size}, {size}), pixels from 0 to 255; "
        "the normalisation is part of the network",
        "output": f"logits: float32 (N, {specification.classes})",
    }


def _write_safetensors(network: Network) -> tuple[bytes, str]:
    if is_lent(network.specification.model):
        memory = "holds no code, and this network was given as an object in memory; allowed: onnx, torch"
        raise refusal("format", "safetensors", memory)
    return sparse_file.write(network, describe(network.specification)), ""


def _load_safetensors(content: bytes) -> Predict:
    return executable(sparse_file.read(content), "auto", torch.device("cpu")).eval()


def _write_torch(network: Network) -> tuple[bytes, str]:
    program, note = _program(network)
    file, remarks = io.BytesIO(), describe(network.specification)
    torch.export.save(program, file, extra_files={f"{name}.txt": text for name, text in remarks.items()})
    return file.getvalue(), note


def _load_torch(content: bytes) -> Predict:
    return cast(Predict, torch.export.load(io.BytesIO(content)).module())


def _write_onnx(network: Network) -> tuple[bytes, str]:
    import onnx
    from onnxscript import opset18 as ops

    program, note = _program(network)
    converted = torch.onnx.export(
        program,
        input_names=["images"],
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
    onnx.helper.set_model_props(model, describe(network.specification))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString()), note


def _load_onnx(content: bytes) -> Predict:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def _program(network: Network) -> tuple[torch.export.ExportedProgram, str]:
    """The network as a graph of torch's own functions, and what was cut."""
    module, note = deploy(network)
    example = network.specification.example().to(torch.uint8)
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(module, (example,), dynamic_shapes={"images": {0: batch}})
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # where the code lay on this machine
    return program, note


FORMATS: dict[str, Format] = {
    "safetensors": Format(
        sparse_file.FILE,
        (),
        _write_safetensors,
        _load_safetensors,
        "import safs_ray\n\nnetwork = safs_ray.load('network.safetensors')  # execution='sparse' or 'dense' if told\n"
        "logits = network(images)",
    ),
    "onnx": Format(
        "network.onnx",
        ("onnx", "onnxscript", "onnxruntime"),
        _write_onnx,
        _load_onnx,
        "import onnxruntime\n\nsession = onnxruntime.InferenceSession('network.onnx')\n"
        "(logits,) = session.run(None, {'images': images})",
    ),
    "torch": Format(
        "network.pt2",
        (),
        _write_torch,
        _load_torch,
        "import torch\n\nnetwork = torch.export.load('network.pt2').module()\nlogits = network(images)",
    ),
}
