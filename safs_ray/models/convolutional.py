"""Networks of convolutions and linear layers, with stems and heads for small images."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import cast

from torch import Tensor, nn

from safs_ray.models.specification import Specification

SMALL = 64
"""Images below this side, in pixels, get the stems and heads made for small images."""


def lenet5(specification: Specification) -> nn.Module:
    """LeNet-5 with convolutions 6@5x5 and 16@5x5 and layers of 120, 84 and the classes (LeCun et al. 1998).

    As in the original system, 28x28 images are not padded: the flattened size is 256 there and 400 for 32x32.
    Four sites.
    """
    height, width = specification.sides()
    specification.require(height == width and height in (28, 32), "28x28 or 32x32")
    side = ((height - 4) // 2 - 4) // 2
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(specification.channels, 6, 5),
            act1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(6, 16, 5),
            act2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(16 * side * side, 120),
            act3=nn.ReLU(),
            fc2=nn.Linear(120, 84),
            act4=nn.ReLU(),
            fc3=nn.Linear(84, specification.outputs),
        )
    )


def mlp(specification: Specification) -> nn.Module:
    """Two hidden layers of 300 and 100 neurons (LeNet-300-100, LeCun et al. 1998), for any inputs. Two sites."""
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc1=nn.Linear(specification.values(), 300),
            act1=nn.ReLU(),
            fc2=nn.Linear(300, 100),
            act2=nn.ReLU(),
            fc3=nn.Linear(100, specification.outputs),
        )
    )


def vgg16(specification: Specification) -> nn.Module:
    """torchvision's VGG-16 with batch normalisation (Simonyan & Zisserman 2015).

    Below 64 pixels the head is made for small images: global average pooling and layers of 512, 512 and the
    classes. 15 sites either way. There is no dropout: it would draw from the global generator.
    """
    side = min(specification.sides())
    specification.require(side >= 32, "32x32 or more")
    features = nn.Sequential(*_vgg_layers())
    if specification.channels != 3:
        features[0] = nn.Conv2d(specification.channels, 64, 3, padding=1)
    if side >= SMALL:
        from torchvision.models import vgg  # here: torchvision takes seconds to import, in every worker

        module: nn.Module = vgg.VGG(features, num_classes=specification.outputs)
        for place in (2, 5):
            cast(nn.Sequential, module.classifier)[place] = nn.Identity()
        return module
    head = OrderedDict(
        fc1=nn.Linear(512, 512),
        act1=nn.ReLU(),
        fc2=nn.Linear(512, 512),
        act2=nn.ReLU(),
        fc3=nn.Linear(512, specification.outputs),
    )
    for layer in features:
        if isinstance(layer, nn.Conv2d):  # as torchvision's VGG does
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(cast(Tensor, layer.bias))
    return nn.Sequential(
        OrderedDict(
            features=features,
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            classifier=nn.Sequential(head),
        )
    )


def _vgg_layers() -> Iterator[nn.Module]:
    """The layers before VGG-16's head, as torchvision makes and numbers them."""
    channels = 3
    for block, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            yield from (nn.Conv2d(channels, block, 3, padding=1), nn.BatchNorm2d(block), nn.ReLU(inplace=True))
            channels = block
        yield nn.MaxPool2d(2)


def resnet18(specification: Specification) -> nn.Module:
    """torchvision's ResNet-18 (He et al. 2016).

    Below 64 pixels the stem is made for small images: a 3x3 convolution of stride 1 and no pooling. 17 sites,
    two in each block: after the first normalisation and after the sum.
    """
    from torchvision.models import resnet

    side = min(specification.sides())
    specification.require(side >= 8, "8x8 or more")
    module: nn.Module = resnet.resnet18(weights=None, num_classes=specification.outputs)
    if side < SMALL:
        module.conv1 = nn.Conv2d(specification.channels, 64, 3, stride=1, padding=1, bias=False)
        module.maxpool = nn.Identity()
    elif specification.channels != 3:
        module.conv1 = nn.Conv2d(specification.channels, 64, 7, stride=2, padding=3, bias=False)
    return module


def efficientnet_b0(specification: Specification) -> nn.Module:
    """torchvision's EfficientNet-B0 (Tan & Le 2019), whose own activation is swish.

    Below 64 pixels the first two halvings of the resolution are left out, as in ResNet-18. 33 sites beside the
    squeeze-excitation blocks: one in the stem, two in each block (one in the first), one in the head. There is
    neither dropout nor stochastic depth: they would draw from the global generator.
    """
    from torchvision.models import efficientnet

    side = min(specification.sides())
    specification.require(side >= 8, "8x8 or more")
    module: nn.Module = efficientnet.efficientnet_b0(
        weights=None, num_classes=specification.outputs, dropout=0.0, stochastic_depth_prob=0.0
    )
    features = cast(nn.Sequential, module.features)
    for path in [path for path, _ in features.named_modules()]:
        if path.endswith("stochastic_depth"):  # as it stands, it has two graphs: for training and for evaluation
            features.set_submodule(path, nn.Identity())
    small = side < SMALL
    stem = nn.Conv2d(specification.channels, 32, 3, stride=1 if small else 2, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out")  # as torchvision does
    features.set_submodule("0.0", stem)
    if small:
        cast(nn.Conv2d, features.get_submodule("2.0.block.1.0")).stride = (1, 1)
    return module
