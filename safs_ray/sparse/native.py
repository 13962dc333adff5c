"""LLVM code as machine code for this processor: compiled once, then read from the user's cache folder."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from safs_ray import machine

_ENGINES: list[Any] = []
"""They own the code, which must stay."""

DIGEST = 32
"""Bytes of the fingerprint that a file of machine code begins with."""


def load(code: str, functions: Sequence[str]) -> Mapping[str, int]:
    """The addresses of the functions of a module in LLVM's assembly language."""
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target())
    engine.add_object_file(llvm.ObjectFileRef.from_data(_object(code)))
    engine.finalize_object()
    _ENGINES.append(engine)
    return {name: engine.get_function_address(name) for name in functions}


def function(address: int, arguments: int) -> Callable[..., None]:
    """Code at an address that takes so many integers of 64 bits; it runs beside other threads."""
    return ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * arguments)(address)


def _object(code: str) -> bytes:
    """The module's machine code."""
    folder = machine.cache_folder()
    if not folder:
        return _compiled(code)
    key = "\0".join((code, _target().triple, *_processor(), llvmlite.__version__))
    file = folder / f"code-{hashlib.sha256(key.encode()).hexdigest()[:32]}.o"
    if not (content := _read(file)):
        content = _compiled(code)
        _write(file, content)
    return content


def _read(file: Path) -> bytes:
    """Nothing where there is no such file, or a damaged one."""
    content = b""
    with suppress(OSError):
        content = file.read_bytes()
    return content[DIGEST:] if content[:DIGEST] == hashlib.sha256(content[DIGEST:]).digest() else b""


def _write(file: Path, content: bytes) -> None:
    """Whole: processes that compile the same at once replace each other's file with an equal one."""
    with suppress(OSError), NamedTemporaryFile(dir=file.parent, delete=False) as written:
        written.write(hashlib.sha256(content).digest() + content)
        written.flush()
        Path(written.name).replace(file)


def _compiled(code: str) -> bytes:
    module = llvm.parse_assembly(code)
    builder = llvm.create_pass_builder(_target(), llvm.create_pipeline_tuning_options(speed_level=3))
    builder.getModulePassManager().run(module, builder)
    return bytes(_target().emit_object(module))


@cache
def _target() -> Any:
    llvm.initialize_native_target()  # else it is there only once numba has compiled something
    llvm.initialize_native_asmprinter()
    processor, features = _processor()
    return llvm.Target.from_default_triple().create_target_machine(cpu=processor, features=features, opt=3, jit=True)


@cache
def _processor() -> tuple[str, str]:
    """This processor's name and features.

    LLVM takes half of AVX-512's registers on some processors that have it whole; here loops of products and sums
    are most of what runs, and they gain from all of it.
    """
    features = llvm.get_host_cpu_features()
    whole = ",-prefer-256-bit" if features.get("avx512f") else ""
    return llvm.get_host_cpu_name(), features.flatten() + whole


def lanes() -> int:
    """How many float32 a register of this processor holds."""
    features = llvm.get_host_cpu_features()
    return 16 if features.get("avx512f") else 8 if features.get("avx") else 4
