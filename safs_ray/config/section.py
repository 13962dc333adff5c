"""What all sections of a configuration rest on: the model, and kinds of values that several have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A group of keys; immutable, no other key allowed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


Count = Annotated[int, Field(ge=1, le=10**6)]
Images = Annotated[int, Field(ge=1, le=10**9)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


def at_home(path: str) -> str:
    """A path or URI with the home folder in place of a ``~`` or ``~USER`` that it begins with.

    A shell replaces ``~`` only at the beginning of a word, so that ``key=~/folder`` comes as it was typed.

    Raises:
        ValueError: this machine has no such user.
    """
    if not path.startswith("~"):
        return path
    try:
        return str(Path(path).expanduser())
    except RuntimeError:
        user = path.partition("/")[0]
        raise ValueError(f"there is no user {user[1:]} here; ./{user} is a folder of that name") from None


HomePath = Annotated[str, Field(min_length=1), AfterValidator(at_home)]
"""A path or URI of a file or folder that a person names."""


def between(least: float, most: float) -> AfterValidator:
    """A check of a range that HyperOpt draws from."""

    def check(value: tuple[float, float]) -> tuple[float, float]:
        if not least <= value[0] <= value[1] <= most:
            raise ValueError(f"must be [low, high] with {least:g} <= low <= high <= {most:g}")
        return value

    return AfterValidator(check)


def distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("must name each choice once")
    return names
