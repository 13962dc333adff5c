"""Channels that go away: accuracy against multiply-adds and milliseconds, by pruner, beside Torch-Pruning's.

    pip install torch-pruning onnxruntime
    python benchmarks/channels.py DENSE_FOLDER OUTPUT [data.folder=MNIST_FOLDER] [--seeds 0 1 2] [--macs 0.5 0.25 0.1]
        [--pruners "taylor, global"] [--rate 1e-2] [--epochs 8] [--last 4] [--search 8 2]

Every cell starts from the dense network of its seed, as benchmarks/pruners.py trains it, and loses channels until a
share of the multiply-adds is left: at once and then trained, or while it trains for as many epochs. Then it is trained
for the same number of epochs with ReLU, and with what a short search finds. Writes OUTPUT/channels.json after every
cell; cells that stand there are not made again. Prints means and standard deviations over the seeds.
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product

import torch
from inference import MANY
from pruners import ADAM, Cell, cells_in, compare, configure, parser_of_cells, spread, train_dense
from smaller import of_onnx
from timing import medians
from torch import Tensor, nn

from safs_ray import config, stages
from safs_ray.config import Configuration
from safs_ray.data import Folds
from safs_ray.network import Network
from safs_ray.stages import Result
from safs_ray.training import Context, sparse_training, train


def ours(network: Network, run: Configuration, folds: Folds, macs: float, **keys: str) -> Result:
    """The network pruned and trained by safs_ray."""
    return stages.prune(network, Context(asking(run, macs, **keys), folds.search()))


def asking(run: Configuration, macs: float, **keys: str) -> Configuration:
    """The setting that leaves a share of the multiply-adds."""
    epochs = run.pruning.epochs
    section = {"epochs": epochs, "structure": "filters", "macs": macs, "hyperparameters": ADAM, **keys}
    return config.validate({**run.model_dump(mode="json"), "pruning": section})


def of_torch_pruning(network: Network, run: Configuration, folds: Folds, macs: float, over_all: bool) -> Result:
    """The same with the channels that Torch-Pruning removes by the magnitude of groups."""
    setting = asking(run, macs)
    section = setting.pruning
    training = sparse_training(Context(setting, folds.search()), section.hyperparameters, section.epochs, run.run.seed)
    return Result(*train(network.masked(masks_of_torch_pruning(network, macs, over_all)), training, "--macs"))


def masks_of_torch_pruning(network: Network, macs: float, over_all: bool) -> dict[str, Tensor]:
    """Masks of the channels that it removes at the ratio that comes next to a share of the multiply-adds from below.

    It leaves a layer whole that would lose all of its channels, so a higher ratio may leave more: many are tried.
    """
    weights, best = network.prunable(), torch.zeros(network.coupling.sets, dtype=torch.bool)
    allowed = macs * network.coupling.multiply_adds_between(~best, weights)
    most = -1
    for step in range(1, STEPS):
        kept = _kept_by_torch_pruning(network, step / STEPS, over_all)
        left = network.coupling.multiply_adds_between(kept, weights)
        if most < left <= allowed:
            most, best = left, kept
    if most < 0:
        raise SystemExit(f"no ratio of Torch-Pruning leaves {macs:.0%} of the multiply-adds")
    return network.coupling.masks(best, weights)


STEPS = 50
"""Of the ratio."""


def _kept_by_torch_pruning(network: Network, ratio: float, over_all: bool) -> Tensor:
    import torch_pruning

    module = network.build().eval()
    names = {child: name for name, child in module.named_modules()}
    last = list(network.prunable())[-1].removesuffix(".weight")
    pruner = torch_pruning.pruner.MagnitudePruner(
        module,
        network.specification.example(),
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=ratio,
        global_pruning=over_all,
        ignored_layers=[module.get_submodule(last)],
    )
    kept = torch.ones(network.coupling.sets, dtype=torch.bool)
    for group in pruner.step(interactive=True):
        for dependency, places in group:
            layer = dependency.target.module
            if isinstance(layer, nn.Conv2d | nn.Linear) and dependency.handler.__name__ == "prune_out_channels":
                kept[network.coupling.outputs[f"{names[layer]}.weight"][places]] = False
    return kept


PRUNERS: Mapping[str, Callable[[Network, Configuration, Folds, float], Result]] = {
    **{
        f"{score}, {allocation}": partial(ours, score=score, allocation=allocation)
        for score, allocation in product(("magnitude", "taylor", "fisher", "random"), ("layer", "global"))
    },
    "envelope, global": partial(ours, schedule="envelope", allocation="global"),
    "turbo-vbi, global": partial(ours, schedule="turbo-vbi", allocation="global"),
    "Torch-Pruning, layer": partial(of_torch_pruning, over_all=False),
    "Torch-Pruning, global": partial(of_torch_pruning, over_all=True),
}


def main() -> None:
    parser = parser_of_cells(__doc__)
    parser.add_argument("--macs", type=float, nargs="+", default=[0.5, 0.25, 0.1])
    parser.add_argument("--pruners", nargs="+", default=list(PRUNERS), choices=PRUNERS)
    parser.add_argument("--rate", type=float, default=1e-2, help="learning rate of the search and the last training")
    parser.add_argument("--epochs", type=int, default=8, help="of the training while channels go, or after they went")
    parser.add_argument("--last", type=int, default=4, help="epochs of the last training")
    parser.add_argument("--search", type=int, nargs=2, default=[8, 2], help="its evaluations, and the epochs of each")
    arguments = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    file, cells = cells_in(arguments.output, "channels.json")
    made = {key(cell) for cell in cells}
    for seed in arguments.seeds:
        setting = of_length(configure(arguments.words, seed), arguments.epochs, arguments.last, *arguments.search)
        folds = stages.folds(setting, stages.load(setting))
        dense = train_dense(setting, folds, arguments.dense)
        for macs, pruner in product(arguments.macs, arguments.pruners):
            if (seed, macs, pruner) not in made:
                pruned = PRUNERS[pruner](dense.network, setting, folds, macs)
                measured = measure(pruned, asking(setting, macs), folds, arguments.rate)
                cells.append({"seed": seed, "macs": macs, "pruner": pruner} | measured)
                file.write_text(json.dumps(cells, indent=1) + "\n")
                print(json.dumps(cells[-1]), flush=True)
    show(cells)


def of_length(setting: Configuration, epochs: int, last: int, steps: int, each: int) -> Configuration:
    """The setting with other lengths of its trainings and its search."""
    values = setting.model_dump(mode="json")
    search = {"steps": steps, "epochs": each, "lahc": {"walks": 4}}
    pruning, final = {**values["pruning"], "epochs": epochs}, {**values["final"], "epochs": last}
    return config.validate({**values, "pruning": pruning, "search": search, "final": final})


def key(cell: Cell) -> tuple[int, float, str]:
    return cell["seed"], cell["macs"], cell["pruner"]


def measure(pruned: Result, run: Configuration, folds: Folds, rate: float) -> Cell:
    """What became of a network without its channels."""
    network, coupling = pruned.network, pruned.network.coupling
    whole = coupling.multiply_adds({name: torch.ones_like(mask) for name, mask in network.masks.items()})
    return {
        "left": coupling.multiply_adds(network.masks) / whole,
        "weights": network.nonzero_weights,
        "milliseconds": {str(count): milliseconds(network, count) for count in (1, 64)},
        **compare(run, folds, pruned, rate),
    }


def milliseconds(network: Network, count: int) -> float:
    """The median time that ONNX Runtime takes for so many images on one thread."""
    images = torch.randint(0, 256, (count, *network.specification.shape), dtype=torch.uint8)
    return 1000 * medians([partial(of_onnx(network)["ONNX Runtime"], images)], calls=MANY, turns=20)[0]


def show(cells: Sequence[Cell]) -> None:
    """Print test accuracies in per cent: mean ± sd over the seeds."""
    print("| multiply-adds | pruner | weights | ms, 1 image | ms, 64 images | seeds | ReLU | SAFS | gain |")
    print("|" + "---|" * 9)
    groups: dict[tuple[float, int], list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[-cell["macs"], list(PRUNERS).index(cell["pruner"])].append(cell)
    for (macs, place), own in sorted(groups.items()):
        relu, safs = ([cell[kind]["test"] for cell in own] for kind in ("relu", "safs"))
        gains = [after - before for before, after in zip(relu, safs, strict=True)]
        one, many = (statistics.mean(cell["milliseconds"][count] for cell in own) for count in ("1", "64"))
        print(
            f"| {-macs:.0%} | {list(PRUNERS)[place]} | {statistics.mean(cell['weights'] for cell in own):,.0f} | "
            f"{one:.3f} | {many:.2f} | {len(own)} | {spread(relu)} | {spread(safs)} | {spread(gains, sign='+')} |"
        )


if __name__ == "__main__":
    main()
