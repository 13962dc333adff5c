"""Where a run computes and what it is told: devices, costs of execution, storage, messages."""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field

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
Precision = Literal["auto", "float32", "bf16", "dense bf16"]
MemoryFormat = Literal["auto", "contiguous", "channels_last"]


def _storage(value: str) -> str:
    if re.match(r"[A-Za-z][\w+.-]*:(?!//.)", value):
        raise ValueError("must be a folder or SCHEME://BUCKET/FOLDER, such as s3://bucket/runs")
    return value


TIME = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?")
"""Hours, minutes and seconds, each of which may be missing."""


def seconds_of(time: str) -> int:
    """The seconds of a time as a configuration has it; 0 of what is none.

    Examples:
        >>> seconds_of("1h30m"), seconds_of("20m"), seconds_of("600s"), seconds_of("soon")
        (5400, 1200, 600, 0)
    """
    match = TIME.fullmatch(time)
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    return 3600 * hours + 60 * minutes + seconds


def _time(value: object) -> object:
    if value is None or (isinstance(value, str) and seconds_of(value)):
        return value
    raise ValueError("must be a time above 0, such as 20m, 2h, 600s or 1h30m, or null")


class RunSection(Section):
    name: str = Field(
        "run",
        max_length=100,
        pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$",
        description="name of the run folder, STORAGE/NAME",
    )
    storage: Annotated[HomePath, AfterValidator(_storage)] = Field(
        "runs", description="folder or URI (s3://bucket/prefix, gs://bucket/prefix) that holds run folders"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="seed of the run; every random draw is derived from it")
    budget: Annotated[str | None, BeforeValidator(_time)] = Field(
        None,
        description="time that the run may take, such as 20m, 2h, 600s or 1h30m: how long the trainings are, which "
        "pruners are tried, and how far the search goes, follow from it, but for what is given beside it. Default: "
        "none, and the keys hold as they are",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where stages compute; auto: on a GPU if there is one, else on the CPU"
    )
    execution: Execution = Field(
        "auto",
        description="how networks with masks compute. dense: with all weights; sparse: with the nonzero weights "
        "alone, on a CPU; auto: with whichever is faster, layer by layer. While masks change, sparse is auto",
    )
    costs: tuple[Cost, Cost, Cost] | None = Field(
        None,
        description="three costs, from which run.execution=auto predicts whether sparse or dense is faster: the time "
        "that one nonzero weight takes in a sparse layer, that one neuron takes, and that one neuron takes to "
        "enter or leave a dense layer between sparse ones; all as multiples of the time of one weight in a dense "
        "layer. Default: the command measures them once on each machine; in Python, typical costs",
    )
    precision: Precision = Field(
        "auto",
        description="arithmetic of training; dense bf16: bf16 for the dense network, float32 for sparse ones; auto: "
        "bf16 on a GPU that supports it, dense bf16 on a CPU where a new run finds it faster, else float32. Weights "
        "are stored, and accuracies computed, in float32",
    )
    memory_format: MemoryFormat = Field(
        "auto",
        description="layout of images in memory; auto: channels_last on a GPU, for networks that come with safs_ray",
    )
    deterministic: bool = Field(
        True,
        description="true: the same bits in every run on a GPU, where torch has kernels for that; false: the "
        "fastest kernels",
    )
    checkpoint_seconds: float = Field(
        30.0, ge=1, le=1e6, description="seconds between two checkpoints of a training; shorter trainings write none"
    )
    address: str = Field(
        "local",
        description="Ray cluster. local: start one for this run; auto: join the one of this machine; or an address",
    )
    verbose: int = Field(
        1,
        ge=0,
        le=1,
        description="1: print a line for every step, in a terminal a table; 0: print only warnings and the result",
    )
    events: HomePath | None = Field(
        None, description="file to which every event is appended as a line of JSON; default: none"
    )

    @property
    def budget_seconds(self) -> float:
        """The time that the run may take; infinite without a budget."""
        return seconds_of(self.budget) if self.budget else math.inf

    @property
    def known_costs(self) -> Costs:
        """What auto goes by; as it typically is where nothing is known of the machine."""
        return Costs(*self.costs) if self.costs else TYPICAL
