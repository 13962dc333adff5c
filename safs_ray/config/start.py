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


Column = Annotated[str, Field(min_length=1, max_length=200)]


class DataSection(Section):
    source: Annotated[str, AfterValidator(_source)] = Field(
        "digits",
        description="where the images come from: digits, mnist, fashion_mnist, kmnist, cifar10, cifar100, "
        "parquet:FOLDER, imagefolder:FOLDER, imagenet16:FOLDER, imagenet16-CLASSES:FOLDER or "
        "package.module:function",
    )
    folder: HomePath = Field("data", description="folder of torchvision's data sets, to which they are downloaded")
    size: int | None = Field(
        None, ge=4, le=1024, description="resize images to squares of this side, in pixels; null: keep their size"
    )
    validation: float = Field(
        0.1, gt=0, le=0.5, description="fraction of the training images that each fold holds out for validation"
    )
    limit: Images | None = Field(
        None, description="largest number of training and of test images to use, a fixed sample; null: all"
    )
    memory: Literal["hold", "map"] = Field(
        "hold",
        description="where decoded image files are kept. hold: in memory, several times; map: in a file beside the "
        "run, which all trials of a machine share and which may be larger than memory",
    )
    image_column: Column | None = Field(
        None, description="column of images in the tables of parquet:FOLDER; default: image or img"
    )
    label_column: Column | None = Field(
        None,
        description="column of labels in the tables of parquet:FOLDER; default: the first that is there of label, "
        "labels, fine_label, coarse_label",
    )
    alpha: Literal["white", "keep"] = Field(
        "white",
        description="transparency of image files. white: place them on a white background; keep: make it a "
        "channel of all images",
    )
    layout: Literal["NCHW", "NHWC"] = Field(
        "NCHW", description="order of the dimensions of the images that your own function returns"
    )
    mean: tuple[Annotated[float, Field(ge=-1000, le=1000)], ...] | None = Field(
        None,
        description="mean of each channel to normalise by, of pixels in [0, 1]; default: that of the training images",
    )
    deviation: tuple[Annotated[float, Field(ge=1e-6, le=1000)], ...] | None = Field(
        None, description="standard deviation of each channel to normalise by; give it together with mean"
    )
    crop: int = Field(0, ge=0, le=64, description="padding in pixels for random crops in training; 0: no crops")
    flip: bool = Field(False, description="flip images horizontally at random in training")

    @model_validator(mode="after")
    def _mean_with_deviation(self) -> DataSection:
        if len(self.mean or ()) != len(self.deviation or ()):
            mean, deviation = (json.dumps(value) for value in (self.mean, self.deviation))
            raise ValueError(f"mean={mean} and deviation={deviation} must have as many values, one for each channel")
        return self


class ModelSection(Section):
    name: Annotated[str, known(ARCHITECTURES)] = Field(
        "lenet5",
        description="network: lenet5, mlp, vgg16, resnet18, efficientnet_b0, localvit_t or package.module:function",
    )
    exclude: tuple[str, ...] | None = Field(
        None,
        description="patterns of the names of activations to leave alone; default: those of squeeze-excitation blocks",
    )
    weights: HomePath | None = Field(
        None,
        description="file with a state dict to start from, safetensors or torch, instead of dense training; "
        "default: none",
    )
    pruned: bool = Field(
        False,
        description="true: the network of model.weights is pruned already; its zeros stay zero, and nothing more "
        "is pruned",
    )

    @model_validator(mode="after")
    def _weights_of_a_pruned_network(self) -> ModelSection:
        if self.pruned and self.weights is None:
            raise ValueError("pruned=true needs model.weights, the file of the pruned network")
        return self


class DenseSection(Section):
    epochs: int = Field(
        30, ge=0, le=10**6, description="epochs of dense training; 0: prune the initial weights as they are"
    )
    hyperparameters: Hyperparameters = Field(Hyperparameters(), description="hyperparameters of dense training")
