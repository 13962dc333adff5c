"""What a run starts from: examples, a network, and its dense training."""

from __future__ import annotations

import json
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from safs_ray.config.hyperparameters import Hyperparameters
from safs_ray.config.names import ARCHITECTURES, LOSSES, METRICS, known
from safs_ray.config.section import HomePath, Images, Section, at_home

Task = Literal["classification", "regression", "multilabel"]

LOSS_OF: dict[Task, str] = dict(zip(("classification", "regression", "multilabel"), LOSSES, strict=True))
"""By task, the named loss that goes with it."""

METRICS_OF: dict[Task, tuple[str, ...]] = {
    "classification": ("accuracy", "balanced accuracy"),
    "regression": ("r2",),
    "multilabel": ("mean average precision",),
}
"""By task, the named metrics that go with it; the first unless told."""

TITLES = {**{name: name for name in METRICS}, "r2": "R²"}
"""What a named metric is called in tables and figures."""

HEAVIEST = 1e6
"""The largest weight of a class."""

SIDES = 4, 1024
"""Pixels of the shortest and of the longest side."""


def _source(value: str) -> str:
    kind, colon, folder = value.partition(":")
    return f"{kind}{colon}{at_home(folder)}"


Column = Annotated[str, Field(min_length=1, max_length=1000)]


def _size(value: object) -> object:
    """A side, or HEIGHTxWIDTH."""
    sides = re.fullmatch(r"(\d{1,6})x(\d{1,6})", value) if isinstance(value, str) else None
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        pixels = [value] if value else []
    elif sides:
        pixels = [int(side) for side in sides.groups()]
    else:
        raise ValueError("must be the side of squares in pixels, or HEIGHTxWIDTH, such as 48x64")
    least, most = SIDES
    if not all(least <= each <= most for each in pixels) or value == 0:
        between = f"must be greater than or equal to {least} and less than or equal to {most}"
        raise ValueError(between + (", both" if sides else ""))
    return value


def _weights(value: object) -> object:
    """A word, or a number for each class."""
    if value in ("none", "balanced"):
        return value
    numbers = value if isinstance(value, list | tuple) else ()
    if numbers and all(type(each) in (int, float) and 0 < each <= HEAVIEST for each in numbers):
        return tuple(map(float, numbers))
    raise ValueError(f"must be none, balanced, or a number for each class, above 0 and to {HEAVIEST:g}")


class DataSection(Section):
    source: Annotated[str, AfterValidator(_source)] = Field(
        "digits",
        description="where the examples come from: digits, mnist, fashion_mnist, kmnist, cifar10, cifar100, "
        "parquet:FOLDER, imagefolder:FOLDER, imagenet16:FOLDER, imagenet16-CLASSES:FOLDER, table:FOLDER, npz:FILE or "
        "package.module:function; inputs:package.module:function for a task.loop that has its own data",
    )
    task: Task = Field(
        "classification",
        description="what is predicted. classification: one class; regression: numbers; multilabel: for each label "
        "whether it applies",
    )
    loss: Annotated[str, known(LOSSES)] | None = Field(
        None,
        description="what training makes small: cross entropy, mean squared error, binary cross entropy or "
        "package.module:function; default: that of the task, in this order",
    )
    metric: Annotated[str, known(METRICS)] | None = Field(
        None,
        description="what is measured on the validation and test examples, and made large: accuracy, balanced "
        "accuracy, r2, mean average precision or package.module:function; default: accuracy, r2 or mean average "
        "precision, by the task",
    )
    class_weights: Annotated[
        Literal["none", "balanced"] | tuple[Annotated[float, Field(gt=0, le=1e6)], ...], BeforeValidator(_weights)
    ] = Field(
        "none",
        description="weights of the classes in the loss, or of labels where they apply. balanced: the rarer, the "
        "larger; or a number for each",
    )
    scale_targets: bool | None = Field(
        None,
        description="regression: the network computes values whose mean and deviation were taken out, which are put "
        "back where it is used; false for a network that was trained on values as they are; default: true, unless "
        "model.weights is given",
    )
    folder: HomePath = Field("data", description="folder of torchvision's data sets, to which they are downloaded")
    size: Annotated[Annotated[int, Field(ge=4, le=1024)] | str | None, BeforeValidator(_size)] = Field(
        None,
        description="resize images to squares of this side, or to HEIGHTxWIDTH such as 48x64, in pixels; null: keep "
        "their size",
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
        description="column of labels in the tables of parquet:FOLDER, by default the first that is there of label, "
        "labels, fine_label, coarse_label; of table:FOLDER, by default label or target, or the names of several with "
        "commas",
    )
    alpha: Literal["white", "keep"] = Field(
        "white",
        description="transparency of image files. white: place them on a white background; keep: make it a "
        "channel of all images",
    )
    layout: Literal["NCHW", "NHWC"] | None = Field(
        None,
        description="order of the dimensions of the images that your own function or npz:FILE gives; by default NCHW, "
        "and images that seem to be of the other order are refused",
    )
    mean: tuple[Annotated[float, Field(ge=-1e9, le=1e9)], ...] | None = Field(
        None,
        description="mean of each channel to normalise by, of pixels in [0, 1]; default: that of the training images",
    )
    deviation: tuple[Annotated[float, Field(ge=1e-6, le=1e9)], ...] | None = Field(
        None, description="standard deviation of each channel to normalise by; give it together with mean"
    )
    crop: int = Field(0, ge=0, le=64, description="padding in pixels for random crops in training; 0: no crops")
    flip: bool = Field(False, description="flip images horizontally at random in training")

    @property
    def sides(self) -> tuple[int, int] | None:
        """Height and width of the images; None where they keep theirs."""
        if self.size is None:
            return None
        height, _, width = str(self.size).partition("x")
        return int(height), int(width or height)

    @property
    def unlabelled(self) -> bool:
        """Whether the source shows only what inputs are like."""
        return self.source.startswith("inputs:")

    @property
    def chosen_loss(self) -> str:
        """The loss, where none is given that of the task."""
        return self.loss or LOSS_OF[self.task]

    @property
    def chosen_metric(self) -> str:
        """The metric, where none is given that of the task."""
        return self.metric or METRICS_OF[self.task][0]

    @property
    def measure(self) -> str:
        """What tables and figures call the metric."""
        return TITLES.get(self.chosen_metric, self.chosen_metric.rpartition(":")[2].replace("_", " "))

    @model_validator(mode="after")
    def _mean_with_deviation(self) -> DataSection:
        if len(self.mean or ()) != len(self.deviation or ()):
            mean, deviation = (json.dumps(value) for value in (self.mean, self.deviation))
            raise ValueError(f"mean={mean} and deviation={deviation} must have as many values, one for each channel")
        return self

    @model_validator(mode="after")
    def _of_one_task(self) -> DataSection:
        if self.chosen_loss in LOSSES and self.chosen_loss != LOSS_OF[self.task]:
            raise ValueError(self._unfit("loss", LOSS_OF[self.task]))
        if self.chosen_metric in METRICS and self.chosen_metric not in METRICS_OF[self.task]:
            raise ValueError(self._unfit("metric", ", ".join(METRICS_OF[self.task])))
        if self.class_weights != "none" and (self.task == "regression" or self.chosen_loss not in LOSSES):
            weights = json.dumps(self.class_weights)
            raise ValueError(f"class_weights={weights} are for cross entropy and binary cross entropy; allowed: none")
        return self

    def _unfit(self, key: str, allowed: str) -> str:
        return f"{key}={getattr(self, key)} does not go with task={self.task}; allowed: {allowed} or your own"


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
