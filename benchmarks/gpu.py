"""What one GPU does with the networks for CIFAR-10, in at most ten minutes, without network and without Ray.

    python benchmarks/gpu.py OUTPUT                                          random images: times alone
    python benchmarks/gpu.py OUTPUT data.source=parquet:CIFAR10_FOLDER       and training in the time that is left
    python benchmarks/gpu.py OUTPUT --device cpu --models resnet18 --batch 8 --ways "float32, as torch runs it"

Runs the tests that need a GPU. Then times a training step (forward, backward, SGD) of each network in several ways:
float32 and bf16, contiguous and channels_last, as torch runs it, by torch.compile and by CUDA graphs; dense, with masks
of 99 % and without the channels that leave a quarter of the multiply-adds. Compares two trainings of the same seed bit
for bit. With images, trains the first network as long as time is left, prunes it to 99 % in one shot, every layer
alike, and retrains it with ReLU. Writes OUTPUT/gpu.json after every part, and prints it.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from sparse import masks
from torch import Tensor

from safs_ray import config, stages
from safs_ray.config import Configuration, Hyperparameters, PruningSection
from safs_ray.data import Examples, Splits
from safs_ray.losses import CROSS_ENTROPY, Targets
from safs_ray.models import Specification
from safs_ray.network import Network
from safs_ray.pruning.rules import FixedMasks
from safs_ray.pruning.structure import select
from safs_ray.sparse.execution import executable
from safs_ray.training import Context, Trainer, Training

HERE = Path(__file__).resolve().parent.parent

WAYS: dict[str, tuple[torch.dtype, torch.memory_format, str | None]] = {
    "float32, as torch runs it": (torch.float32, torch.contiguous_format, None),
    "bf16, contiguous": (torch.bfloat16, torch.contiguous_format, None),
    "bf16, channels_last": (torch.bfloat16, torch.channels_last, None),
    "bf16, channels_last, torch.compile": (torch.bfloat16, torch.channels_last, "default"),
    "bf16, channels_last, CUDA graphs": (torch.bfloat16, torch.channels_last, "reduce-overhead"),
}
"""Arithmetic, layout of images, and mode of torch.compile, where it is used."""

SGD = {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4, "batch_size": 128}

TRAINING: dict[str, Any] = {
    "data": {"validation": 0.1, "crop": 4, "flip": True},
    "dense": {"hyperparameters": {**SGD, "learning_rate": 0.1, "schedule": "cosine"}},
    "pruning": {
        "sparsity": 0.99, "allocation": "layer", "hyperparameters": {**SGD, "learning_rate": 0.01, "schedule": "cosine"}
    },
}  # fmt: skip
"""Of the dense and of the sparse network."""

TESTING = 0.25
"""The part of the time that is left before training which may go into steps of each network."""


class Report:
    """What was measured so far; every part is written down and printed at once."""

    def __init__(self, folder: Path, seconds: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file, self._end = folder / "gpu.json", time.monotonic() + seconds
        self.parts: dict[str, Any] = {}

    def add(self, part: str, value: object) -> None:
        self.parts[part] = value
        self._file.write_text(json.dumps(self.parts, indent=1) + "\n")
        print(f"{part}: {json.dumps(value)}", flush=True)

    @property
    def left(self) -> float:
        """Seconds."""
        return self._end - time.monotonic()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", metavar="OUTPUT", type=Path)
    parser.add_argument("words", nargs="*", metavar="key.path=value", help="of the configuration, such as data.source")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--seconds", type=float, default=540.0, help="for all")
    parser.add_argument("--models", nargs="+", default=["vgg16", "resnet18"])
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS), metavar="WAY")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--turns", type=int, default=20)
    arguments = parser.parse_intermixed_args()
    device = torch.device(arguments.device)
    report = Report(arguments.output, arguments.seconds)
    report.add("machine", described(device))
    report.add("tests", tests())
    for model in arguments.models:
        end = time.monotonic() + TESTING * report.left
        for kind, network in kinds(initial(model)).items():
            for way in arguments.ways:
                if time.monotonic() < end:
                    measured = step_of(network, way, device, arguments.batch, arguments.turns)
                    report.add(f"{model}, {kind}, {way}", measured)
    report.add("same bits twice", same_bits(arguments.models[-1], device))
    if arguments.words:
        train([f"run.device={arguments.device}", *arguments.words], arguments.models[0], report)


def described(device: torch.device) -> dict[str, str]:
    """What it ran on."""
    cuda = device.type == "cuda"
    name = torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False)
    versions = {"torch": torch.__version__, "cuda": str(torch.version.cuda), "python": platform.python_version()}
    return {"device": name, **versions, "commit": commit.stdout.strip()}


def tests() -> str:
    """The last line of what pytest says of the tests that need a GPU."""
    program = [sys.executable, "-m", "pytest", "-q", "tests/test_gpu.py"]
    told = subprocess.run(program, cwd=HERE, capture_output=True, text=True, check=False).stdout.strip()
    return told.splitlines()[-1] if told else "pytest is not there"


def initial(model: str) -> Network:
    return Network.initial(Specification(model, (3, 32, 32), 10, (0.5,) * 3, (0.25,) * 3), seed=0)


def kinds(network: Network) -> dict[str, Network]:
    """The network dense, with masks, and with a quarter of its multiply-adds."""
    scores = {name: weight.abs() for name, weight in network.prunable().items()}
    quarter = PruningSection(macs=0.25)
    return {
        "dense": network,
        "masks of 99 %": network.masked(masks(network, "layer", 0.99)),
        "a quarter of the multiply-adds": network.masked(select(scores, 0.75, quarter, {}, network)),
    }


def step_of(network: Network, way: str, device: torch.device, batch: int, turns: int) -> dict[str, float]:
    """Median milliseconds of a step, and the gigabytes that it takes at most."""
    precision, memory_format, mode = WAYS[way]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    cohort = executable(network, "auto", device).cohort
    cohort.train()
    cohort.freeze_scales()
    if mode:
        cohort.forward = torch.compile(cohort.forward, mode=mode)  # type: ignore[method-assign]
    optimizer = torch.optim.SGD(cohort.parameters(), lr=0.01, momentum=0.9)
    rule = FixedMasks(cohort.prunable, {name: network.masks[name] for name in cohort.prunable if network.masks}, 1)
    draws = torch.Generator().manual_seed(0)
    shape = (batch, *network.specification.shape)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=draws).to(device, memory_format=memory_format)
    targets = Targets(torch.randint(0, 10, (batch,), generator=draws).to(device))
    times = []
    for turn in range(WARM_UP + turns):
        start = time.perf_counter()
        cohort.learn(images, targets, CROSS_ENTROPY, precision)
        rule.before_step()
        optimizer.step()
        rule.after_step(optimizer)
        if device.type == "cuda":
            torch.cuda.synchronize()
        if turn >= WARM_UP:
            times.append(time.perf_counter() - start)
    gigabytes = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else 0.0
    return {"milliseconds": round(1000 * median(times), 3), "gigabytes": round(gigabytes, 3)}


WARM_UP = 5
"""Steps that are not timed: torch.compile compiles in them."""


def same_bits(model: str, device: torch.device) -> bool:
    """Whether two trainings of a few random images, with run.deterministic, end in the same bits."""
    network = initial(model)
    draws = torch.Generator().manual_seed(0)
    source = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8, generator=draws)
    run = config.validate({"run": {"device": device.type}})
    stages.set_up(run)
    splits = random_splits(source)
    ends = []
    for _ in range(2):
        training = Training(Context(run, splits, device), Hyperparameters(batch_size=32), 2, 0)
        ends.append(Trainer([network], training).run().current().fingerprint)
    return ends[0] == ends[1]


def random_splits(images: Tensor) -> Splits:
    examples = Examples(images, torch.arange(len(images)) % 10)
    return Splits(examples, examples[:16], examples[:16])


def train(words: Sequence[str], model: str, report: Report) -> None:
    """Train as many epochs as the time holds, prune in one shot, and retrain with ReLU."""
    words = [f"model.name={model}", *words]
    setting = configured(words, dense=2, retraining=1)
    device = stages.set_up(setting)
    folds = stages.folds(setting, stages.load(setting))
    specification = stages.specify(setting, folds.dataset, folds.search())
    ends: list[float] = []
    tried = Context(setting, folds.search(), device, report=lambda *_: ends.append(time.monotonic()))
    stages.train_dense(specification, tried)
    epoch = ends[1] - ends[0]  # the first one brings what it needs into place
    epochs = int((report.left - ENDING) / epoch)
    if epochs < 2:
        return report.add("training", f"no time: an epoch takes {epoch:.1f} s")
    setting = configured(words, dense=max(1, 2 * epochs // 3), retraining=max(1, epochs // 3))
    context = Context(setting, folds.search(), device)
    dense = stages.train_dense(specification, context)
    sparse = stages.prune(dense.network, context)
    for name, result, count in (("dense", dense, setting.dense.epochs), ("99 %", sparse, setting.pruning.epochs)):
        tested = stages.test(result, Context(setting, folds.final(0), device))
        report.add(
            f"{model}, {name}, {count} epochs",
            {"validation": result.validation_accuracy, "test": tested.test_accuracy, "core_s": result.core_seconds},
        )
    return None


def configured(words: Sequence[str], dense: int, retraining: int) -> Configuration:
    """The setting with so many epochs."""
    epochs = [f"dense.epochs={dense}", f"pruning.epochs={retraining}"]
    return config.validate(config.overridden(TRAINING, [*words, *epochs]))


ENDING = 20.0
"""Seconds for what comes after the last epoch."""


if __name__ == "__main__":
    main()
