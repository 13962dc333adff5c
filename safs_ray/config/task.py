"""What a network is trained for, and by what."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from safs_ray.config.names import REFERENCE
from safs_ray.config.section import Section

WITHIN_TRAINING = ("gradual", "gsm", "swamp", "rigl", "envelope", "turbo-vbi")
"""Pruning schedules that work inside the loop of the package: in the middle of a training, or on several at a time."""


def _reference(value: str) -> str:
    if not REFERENCE.fullmatch(value):
        raise ValueError("must be package.module:function")
    return value


class TaskSection(Section):
    loop: Annotated[str, AfterValidator(_reference)] | None = Field(
        None,
        description="training loop of your own as package.module:function, called as function(module, context); it "
        "trains the module and returns its score, which is maximised; default: the loop of the package",
    )
