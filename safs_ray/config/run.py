"""Where a run computes and what it is told: devices, costs of execution, storage, messages."""

from __future__ import annotations

import re
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field

from safs_ray.config.section import HomePath, Section

Execution = Literal["auto", "dense", "sparse"]


class Costs(NamedTuple):
    """Times of what sparse execution does, in that of a use of a weight in a dense layer.

    All of them for one image on one core, forward and backward.

    Attributes:
        nonzero: of a use of a nonzero in a layer that knows only those.
        neuron: of a neuron, in whatever step.
        crossing: of a neuron on its way into or out of a dense layer among sparse ones.
    """

    nonzero: float
    neuron: float
    crossing: float


TYPICAL = Costs(nonzero=4.0, neuron=25.0, crossing=110.0)
"""Medians on a core with AVX-512, where a dense layer takes 0.02 ns for a use of a weight."""


Cost = Annotated[float, Field(gt=0, le=1e6)]
Precision = Literal["auto", "float32", "bf16"]
MemoryFormat = Literal["auto", "contiguous", "channels_last"]


def _storage(value: str) -> str:
    if re.match(r"[A-Za-z][\w+.-]*:(?!//.)", value):
        raise ValueError("must be a folder or SCHEME://BUCKET/FOLDER, such as s3://bucket/runs")
    return value


class RunSection(Section):
    name: str = Field(
        "run", max_length=100, pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$", description="name of the run folder"
    )
    storage: Annotated[HomePath, AfterValidator(_storage)] = Field(
        "runs", description="folder or URI (s3://, gs://) that holds run folders"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="seed from which every random draw of the run is derived")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes a GPU when one is there")
    execution: Execution = Field(
        "auto", description="dense: with all weights; sparse: with nonzeros alone (CPU); auto: what is faster, by layer"
    )
    costs: tuple[Cost, Cost, Cost] | None = Field(
        None,
        description="what auto goes by: times of a nonzero's use, of a neuron, and of its way into or out of a dense "
        "layer, in that of a use of a weight in a dense layer; default: measured by safs_ray.tune once on a machine, "
        "else typical ones",
    )
    precision: Precision = Field(
        "auto",
        description="of the arithmetic of training; auto: bf16 on a GPU that has it, else float32. Weights, and all "
        "accuracies, are of float32",
    )
    memory_format: MemoryFormat = Field(
        "auto",
        description="how images lie in memory; auto: channels_last on a GPU, for networks that are not your own",
    )
    deterministic: bool = Field(
        True,
        description="the same bits every time on a GPU, where torch has kernels that give them; false: the fastest",
    )
    checkpoint_seconds: float = Field(
        30.0, ge=1, le=1e6, description="seconds between two checkpoints of a training; a shorter one leaves none"
    )
    address: str = Field("local", description="Ray cluster: local, auto, or an address")
    verbose: int = Field(
        1, ge=0, le=1, description="1: a line for every step, a table in a terminal; 0: warnings and the result"
    )
    events: HomePath | None = Field(
        None, description="file that every event is appended to, a line of JSON each; default: none"
    )

    @property
    def known_costs(self) -> Costs:
        """What auto goes by; as it typically is where nothing is known of the machine."""
        return Costs(*self.costs) if self.costs else TYPICAL
