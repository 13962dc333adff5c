"""What a run starts from: images, a network, and its dense training."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from safs_ray.config.hyperparameters import Hyperparameters
from safs_ray.config.names import ARCHITECTURES, known
from safs_ray.config.section import HomePath, Images, Section, at_home


def _source(value: str) -> str:
    kind, colon, folder = value.partition(":")
    return f"{kind}{colon}{at_home(folder)}"


class DataSection(Section):
    source: Annotated[str, AfterValidator(_source)] = Field(
        "digits",
        description="digits, mnist, fashion_mnist, kmnist, cifar10, cifar100, parquet:FOLDER, imagefolder:FOLDER, "
        "imagenet16:FOLDER, imagenet16-CLASSES:FOLDER or package.module:function",
    )
    folder: HomePath = Field("data", description="where torchvision's data sets lie or are downloaded to")
    size: int | None = Field(None, ge=4, le=1024, description="side in pixels to resize images to")
    validation: float = Field(0.1, gt=0, le=0.5, description="fraction of the training images that a fold validates on")
    limit: Images | None = Field(None, description="use only so many training and test images, a fixed sample")
    alpha: Literal["white", "keep"] = Field(
        "white",
        description="transparency of image files; white: composed on white; keep: a channel of its own, for all images",
    )
    layout: Literal["NCHW", "NHWC"] = Field(
        "NCHW", description="order of the dimensions of images that your own function returns"
    )
    mean: tuple[Annotated[float, Field(ge=-1000, le=1000)], ...] | None = Field(
        None, description="of each channel, of pixels in [0, 1], to normalise by; default: of the training images"
    )
    deviation: tuple[Annotated[float, Field(ge=1e-6, le=1000)], ...] | None = Field(
        None, description="as mean; goes with it"
    )
    crop: int = Field(0, ge=0, le=64, description="pixels of padding for random crops in training; 0: none")
    flip: bool = Field(False, description="random horizontal flips in training")

    @model_validator(mode="after")
    def _mean_with_deviation(self) -> DataSection:
        if len(self.mean or ()) != len(self.deviation or ()):
            mean, deviation = (json.dumps(value) for value in (self.mean, self.deviation))
            raise ValueError(f"mean={mean} and deviation={deviation} must have as many values, one for each channel")
        return self


class ModelSection(Section):
    name: Annotated[str, known(ARCHITECTURES)] = Field(
        "lenet5", description="lenet5, mlp, vgg16, resnet18, efficientnet_b0, localvit_t or package.module:function"
    )
    exclude: tuple[str, ...] | None = Field(
        None,
        description="patterns of activations that are no sites; default: squeeze-excitation's, where a network has it",
    )
    weights: HomePath | None = Field(None, description="state dict to start from, safetensors or torch; default: none")
    pruned: bool = Field(False, description="the zeros of model.weights stay zeros: nothing more is pruned")

    @model_validator(mode="after")
    def _weights_of_a_pruned_network(self) -> ModelSection:
        if self.pruned and self.weights is None:
            raise ValueError("pruned=true needs model.weights, the file of the pruned network")
        return self


class DenseSection(Section):
    epochs: int = Field(
        30, ge=0, le=10**6, description="passes over the training images; 0: initial weights are pruned as they are"
    )
    hyperparameters: Hyperparameters = Field(Hyperparameters(), description="of dense training")
