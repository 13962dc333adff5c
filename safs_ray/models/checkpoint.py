"""The state dict in a file of a user's: safetensors, or torch's own formats read without running any code."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from safs_ray import machine
from safs_ray.config import ConfigurationError, refusal
from safs_ray.storage import Folder

log = logging.getLogger("safs_ray")

HOLDERS = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "params", "weights",
    "ema_state_dict", "state_dict_ema", "model_ema", "ema_model", "params_ema", "ema",
)  # fmt: skip
"""Where a checkpoint of more than weights keeps its state dict. Of several the first one of this order is taken: the
weights that were trained before their moving average."""

CORES = ("_core", "core")
"""Where numpy 2 and numpy 1 have what makes their values."""

DEPTH = 4
"""So many holders may lie within each other."""


class _Beside:
    """What stands for a value beside the weights: it takes whatever the file says of the value, and keeps nothing."""

    def __new__(cls, *_: object) -> _Beside:
        return super().__new__(cls)

    def __setstate__(self, _: object) -> None:
        """Keep nothing."""


def _standing_in() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """What is read in place of the harmless types that training scripts save beside the weights, by their names.

    None of them is made as the file says, not even numpy's, which believe what a file says of addresses. So a file
    can be of other versions of Python and numpy, too, where some of these have another name.
    """
    names = {
        "argparse": ["Namespace"],
        "builtins": ["dict", "float", "frozenset", "int", "list", "range", "slice", "str", "tuple"],
        "datetime": ["date", "datetime", "time", "timedelta", "timezone"],
        "decimal": ["Decimal"],
        "numpy": ["dtype"],
        **{f"numpy.{core}.multiarray": ["scalar"] for core in CORES},
        "torch.torch_version": ["TorchVersion"],
        "types": ["SimpleNamespace"],
        "uuid": ["UUID"],
    }
    for module in ("pathlib", "pathlib._local"):
        names[module] = ["Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath"]
    kinds: dict[str, Callable[..., Any]] = {
        path: type(path, (_Beside,), {}) for path in (f"{module}.{name}" for module in names for name in names[module])
    }
    array = type("numpy.ndarray", (_Beside,), {})
    kinds |= dict.fromkeys(("numpy.ndarray", *(f"numpy.{core}.multiarray._reconstruct" for core in CORES)), array)
    kinds |= {"collections.defaultdict": lambda *_: {}, "collections.deque": lambda *_: []}  # torch fills no others
    return [(kind, path) for path, kind in kinds.items()]


BESIDE = _standing_in()


def read(file: str) -> dict[str, Tensor]:
    """The tensors of the state dict in a file, by name, on the CPU.

    Names that end in .safetensors are of that format, all others of torch's. Warns where a file holds several state
    dicts, and says which is taken.

    Raises:
        ConfigurationError: the file is missing, damaged, larger than memory, or holds something else than a state
            dict.
    """
    content = _content(file)
    held = _read_safetensors(file, content) if file.endswith(".safetensors") else _read_torch(file, content)
    state = _chosen(file, held)
    if not isinstance(state, Mapping) or not state:
        empty = "empty" if isinstance(state, Mapping) else f"of type {type(state).__name__}"
        raise refused(file, f"must hold a state dict; what it holds is {empty}")
    for name, tensor in state.items():
        _check(file, name, tensor, len(content))
    return dict(state)


def refused(file: str, reason: str) -> ConfigurationError:
    """The error that names the file."""
    return refusal("model.weights", file, reason)


def _content(file: str) -> bytes:
    try:
        place = Folder.at(file)
        size, free = place.parent.size(place.name), machine.free_memory()
        if 2 * size > free:  # as a file and as tensors
            takes = f"takes twice its {machine.readable(size)}, and {machine.readable(free)} of memory are free"
            raise refused(file, takes)
        return place.parent.read(place.name)
    except ConfigurationError:
        raise
    except (OSError, ValueError) as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise refused(file, reason) from None


def _read_safetensors(file: str, content: bytes) -> Any:
    try:
        return safetensors.torch.load(content)
    except Exception as error:  # whatever a damaged file makes the reader stumble over
        raise refused(file, f"is no safetensors file ({error})") from None


def _read_torch(file: str, content: bytes) -> Any:
    try:
        # The warnings are of formats; what is read is checked.
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals(BESIDE):
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # as above
        raise refused(file, _unreadable(content, error)) from None


def _unreadable(content: bytes, error: Exception) -> str:
    """Why torch does not read a file; torch's own text advises to run the file's code, so it is not passed on."""
    wanted = "torch.save(network.state_dict(), FILE) makes what can be read"
    if b"ctorch.nn.modules." in content:  # how pickle names their classes
        return f"is no file of tensors alone: it holds a whole module, whose code is not run; {wanted}"
    if b"/constants.pkl" in content:
        return f"is no file of tensors alone: it holds a program of TorchScript, which is not run; {wanted}"
    named = re.search(r"GLOBAL (\S+)", str(error))
    code = f"it names {named[1]}, whose code is not run; " if named else ""
    return f"is no file of tensors alone, or damaged ({type(error).__name__}); {code}{wanted}"


def _chosen(file: str, held: Any) -> Any:
    """The first of the state dicts in what a file holds; where there is none, what lies in place of it."""
    states = list(_states(held))
    if len(states) > 1:
        places = [place for place, _ in states]
        log.warning("model.weights=%s: holds %s; %s is taken", file, ", ".join(places), places[0])
    if states:
        return states[0][1]
    inner = [held[holder] for holder in HOLDERS if isinstance(held, Mapping) and isinstance(held.get(holder), Mapping)]
    return inner[0] if inner else held


def _states(held: Any, place: str = "", depth: int = DEPTH) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """The state dicts in holders within holders, and where they are: such as "model.state_dict"."""
    if not isinstance(held, Mapping) or not depth:
        return
    inner = [
        states for holder in HOLDERS for states in _states(held.get(holder), f"{place}.{holder}".lstrip("."), depth - 1)
    ]
    yield from inner
    if not inner and any(isinstance(value, Tensor) for value in held.values()):
        yield place, held


def _check(file: str, name: object, tensor: object, size: int) -> None:
    """Refuse what is no tensor of real numbers; ``size`` is that of the file in bytes."""
    if not isinstance(name, str) or not isinstance(tensor, Tensor):
        raise refused(file, f"must hold a state dict, tensors by name; {name} is of type {type(tensor).__name__}")
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or not tensor.is_cpu:
        kind = f"a {tensor.layout} tensor of {tensor.dtype} on {tensor.device}"
        raise refused(file, f"{name} is {kind}; allowed: dense ones of real numbers")
    if tensor.nbytes > size:  # a view that repeats few values
        raise refused(file, f"{name} has shape {tuple(tensor.shape)}, of more values than the file holds")
