"""The files that a network can be exported to."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, NamedTuple, cast

import torch

from safs_ray.config import ConfigurationError, refusal
from safs_ray.engine.module import inference_module
from safs_ray.export import onnx_file, sparse_file
from safs_ray.export.c import writing
from safs_ray.export.drawing import Predict, drawn_for
from safs_ray.export.slim import deploy
from safs_ray.models import Specification
from safs_ray.network import Network, forget_modules
from safs_ray.references import is_lent
from safs_ray.sources.images import one_line

Files = Mapping[str, bytes]
"""Contents by name; the first is the one that others belong to."""


class Runtime(NamedTuple):
    """A program that runs a kind of file.

    Attributes:
        name: for people.
        is_installed: whether it is.
        load: what files compute, on one thread, but for torch, which has as many as it is set to.
    """

    name: str
    is_installed: Callable[[], bool]
    load: Callable[[Files], Predict]


def _package(name: str) -> Callable[[], bool]:
    return lambda: find_spec(name) is not None


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Attributes:
        file: its name in the folder of an export, the main one's where there are several.
        packages: what must be installed beside safs_ray to write it.
        write: the files of a network, and what it had to change or keep, a clause, mostly empty.
        runtimes: the programs that it is made for; those that are installed run and check it, the first always is.
        usage: code that runs it, for the model card.
    """

    file: str
    packages: tuple[str, ...]
    write: Callable[[Network], tuple[Files, str]]
    runtimes: tuple[Runtime, ...]
    usage: str


def find(name: str, dense_weights: bool = False) -> Format:
    """The format of a name.

    Args:
        dense_weights: store every zero, for programs that read no sparse weights.

    Raises:
        ConfigurationError: there is none, or a package that it needs is not installed.
    """
    if name not in FORMATS:
        raise refusal("format", name, f"allowed: {', '.join(FORMATS)}")
    if dense_weights and name not in DENSE_FORMATS:
        raise refusal("format", name, f"has no dense weights; allowed with them: {', '.join(DENSE_FORMATS)}")
    format = (DENSE_FORMATS if dense_weights else FORMATS)[name]
    for package in format.packages:
        try:
            importlib.import_module(package)
        except ImportError:
            needs = f"needs the packages {', '.join(format.packages)}; pip install 'safs_ray[export]'"
            raise refusal("format", name, needs) from None
    if not format.runtimes[0].is_installed():
        raise refusal("format", name, f"is run to check it, which needs {format.runtimes[0].name}")
    return format


@contextmanager
def refusing(name: str, network: Network) -> Iterator[None]:
    """Say in one line why a format cannot hold a network.

    Raises:
        ConfigurationError: it cannot.
    """
    try:
        yield
    except ConfigurationError:
        raise
    except Exception as error:  # exporters raise anything at code that they do not know, a user's above all
        reason = f"cannot hold this {network.specification.model} ({type(error).__name__}: {one_line(error)})"
        raise refusal("format", name, reason) from None


NORMALISED = "the normalisation is part of the network"


def describe(specification: Specification, name: str = "") -> dict[str, str]:
    """What a file of a format takes and gives, for people who have only the file."""
    shape = ", ".join(map(str, specification.shape))
    values = {
        "uint8": f"{'pixels' if specification.is_of_images else 'values'} from 0 to 255; {NORMALISED}",
        "float32": f"as they are measured; {NORMALISED}",
        "int64": f"indices from 0 to {specification.indices - 1}",
    }
    numbers = "int32 (classes,), times NETWORK_UNIT" if name == INT8 else f"float32 (N, {specification.outputs})"
    outputs = f"{'values' if specification.target_mean else 'logits'}: {numbers}"
    kind = specification.kind
    return {"input": f"{specification.noun}s: {kind} (N, {shape}), {values[kind]}", "output": outputs}


def _write_safetensors(network: Network) -> tuple[Files, str]:
    if is_lent(network.specification.model):
        memory = "holds no code, and this network was given as an object in memory; allowed: onnx, torch"
        raise refusal("format", "safetensors", memory)
    return {sparse_file.FILE: sparse_file.write(network, describe(network.specification))}, ""


def _load_safetensors(files: Files) -> Predict:
    module = inference_module(sparse_file.read(files[sparse_file.FILE]))
    forget_modules()
    return module


def _write_torch(network: Network) -> tuple[Files, str]:
    program, note = _program(network)
    file, remarks = io.BytesIO(), describe(network.specification)
    torch.export.save(program, file, extra_files={f"{name}.txt": text for name, text in remarks.items()})
    return {"network.pt2": file.getvalue()}, note


def _load_torch(files: Files) -> Predict:
    return cast(Predict, torch.export.load(io.BytesIO(files["network.pt2"])).module())


def _write_onnx(network: Network) -> tuple[Files, str]:
    model, note = _onnx(network)
    onnx_file.store_nonzeros(model)  # last: what optimizes a model may drop sparse tensors, or make them dense
    return {"network.onnx": bytes(model.SerializeToString())}, note


def _write_dense_onnx(network: Network) -> tuple[Files, str]:
    model, note = _onnx(network)
    return {"network.onnx": bytes(model.SerializeToString())}, note


def _onnx(network: Network) -> tuple[Any, str]:
    program, note = _program(network)
    specification = network.specification
    return onnx_file.convert(program, f"{specification.noun}s", describe(specification)), note


def _in_onnx_runtime(files: Files) -> Predict:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(files["network.onnx"], options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda inputs: torch.from_numpy(session.run(None, {name: inputs.numpy()})[0])


def _in_openvino(files: Files) -> Predict:
    import openvino

    core = openvino.Core()
    exact = {"INFERENCE_PRECISION_HINT": "f32"}  # it computes in bfloat16 where the processor can
    one = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    compiled = core.compile_model(core.read_model(files["network.onnx"]), "CPU", {**exact, **one})
    return lambda inputs: torch.from_numpy(compiled([inputs.numpy()])[0])


def _program(network: Network) -> tuple[torch.export.ExportedProgram, str]:
    """The network as a graph of torch's own functions, and what was cut."""
    module, note = deploy(network)
    example = drawn_for(module, network.specification, 2, torch.Generator().manual_seed(0))
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
        (Runtime("safs_ray", _package("safs_ray"), _load_safetensors),),
        "import safs_ray\n\nnetwork = safs_ray.load('network.safetensors')  # execution='sparse' or 'dense' if told\n"
        "logits = network(images)",
    ),
    "onnx": Format(
        "network.onnx",
        ("onnx", "onnxscript", "onnxruntime"),
        _write_onnx,
        (
            Runtime("ONNX Runtime", _package("onnxruntime"), _in_onnx_runtime),
            Runtime("OpenVINO", _package("openvino"), _in_openvino),
        ),
        "import onnxruntime\n\nsession = onnxruntime.InferenceSession('network.onnx')\n"
        "(logits,) = session.run(None, {'images': images})",
    ),
    "torch": Format(
        "network.pt2",
        (),
        _write_torch,
        (Runtime("torch", _package("torch"), _load_torch),),
        "import torch\n\nnetwork = torch.export.load('network.pt2').module()\nlogits = network(images)",
    ),
    "c": Format(
        writing.SOURCE,
        (),
        lambda network: (writing.write(network), ""),
        (Runtime("cc", lambda: writing.compiler() is not None, writing.compiled),),
        '/* cc -std=c99 -O3 -ffp-contract=off main.c network.c -lm */\n#include "network.h"\n\n'
        "float logits[NETWORK_CLASSES];\nint error = network_run(image, NETWORK_INPUTS, logits, NETWORK_CLASSES);",
    ),
}

INT8 = "int8"
"""The format of C that computes with 8-bit integers, which ``int8_file`` writes."""

INT8_USAGE = (
    '/* cc -std=c99 -O3 main.c network.c */\n#include "network.h"\n\nint32_t logits[NETWORK_CLASSES];\n'
    "int error = network_run(image, NETWORK_INPUTS, logits, NETWORK_CLASSES);"
)

DENSE_FORMATS = {"onnx": replace(FORMATS["onnx"], write=_write_dense_onnx)}
"""With every zero."""
