import torch
from torch import Tensor


def bump(z: Tensor, width: float = 1.0) -> Tensor:
    """z exp(-(z / width)²), a bump on either side of 0; ``width`` is learned and begins at 1."""
    return z * torch.exp(-((z / width) ** 2))
