"""torchvision's MobileNetV2, a network of depthwise convolutions, as a user's own."""

from __future__ import annotations

from torch import nn
from torchvision.models import mobilenet_v2


def network(classes: int) -> nn.Module:
    """Images (N, 3, H, W) to logits (N, classes)."""
    module: nn.Module = mobilenet_v2(weights=None, num_classes=classes, dropout=0.0)
    return module
