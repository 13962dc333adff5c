"""Inputs without labels: what a network takes, for a training loop that knows its own data."""

from __future__ import annotations

import torch
from torch import Tensor

from safs_ray.config import DataSection, refusal
from safs_ray.data import Dataset, Examples
from safs_ray.references import resolve
from safs_ray.sources.images import one_line

FEWEST = 256
"""Inputs that there are at least, so that every fold has some: fewer are repeated."""


def unlabelled(section: DataSection) -> Dataset:
    """The inputs that the user's function returns, called without arguments, as training and as test examples.

    They show what an input is like, to build, check and look at networks; what is learned only the loop knows.

    Raises:
        ConfigurationError: there is no such function, it fails, or it returns no inputs (N, …).
    """
    source = section.source
    function = resolve(source.partition(":")[2], "data.source")
    try:
        inputs = torch.as_tensor(function()).detach().cpu()
    except (Exception, SystemExit) as error:  # the user's function runs, and may raise anything
        raise refusal("data.source", source, f"gives no inputs ({type(error).__name__}: {one_line(error)})") from None
    inputs = _of_a_kind(inputs)
    if inputs.dim() < 2 or not inputs.numel():
        raise refusal("data.source", source, f"must return inputs (N, …), returns shape {tuple(inputs.shape)}")
    if section.layout == "NHWC":  # NCHW stands in configurations of before
        raise refusal("data.layout", section.layout, "is for images with labels; these inputs are taken as they are")
    if not inputs.isfinite().all() or (inputs.dtype == torch.int64 and inputs.min() < 0):
        what = "indices below 0" if inputs.dtype == torch.int64 else "NaN or infinity"
        raise refusal("data.source", source, f"returns inputs that hold {what}")
    enough = inputs.repeat(-(-FEWEST // len(inputs)), *(1 for _ in inputs.shape[1:]))
    examples = Examples(enough, torch.zeros(len(enough), 0))
    return Dataset(examples, examples, outputs=0)


def _of_a_kind(inputs: Tensor) -> Tensor:
    """As bytes, indices or numbers."""
    if inputs.dtype == torch.uint8:
        return inputs
    return inputs.float() if inputs.is_floating_point() else inputs.long()
