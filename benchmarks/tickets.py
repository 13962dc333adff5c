"""Winning tickets beside dense networks of the same norms: is it the mask that helps, or the size of the weights?

    python benchmarks/tickets.py DENSE_FOLDER OUTPUT [data.folder=MNIST_FOLDER] [--seeds 0 1 2] [--sparsity 0.9]

A ticket (Frankle & Carbin 2019) is the initial network with the mask of the largest weights, over all layers, of what
training made of it. It differs from the initial network in its zeros, and its weights are smaller on the whole. So it
is trained beside the initial network; beside that network with the weights of every layer scaled to the ticket's L1 or
L2 norm, the controls of "Grokking tickets" (Minegishi et al. 2023); and beside a random mask with as many weights in
every layer. All train alike, in the same order of images. Dense networks are those of benchmarks/pruners.py. Writes
OUTPUT/tickets.json after every cell; cells that stand there are not made again. Prints test accuracy after the last
epoch and validation accuracy on the way, mean ± sd over the seeds.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from pruners import Cell, cells_in, configure, parser_of_cells, spread, train_dense

from safs_ray import stages
from safs_ray.config import Configuration, Hyperparameters
from safs_ray.data import Folds
from safs_ray.network import Network
from safs_ray.pruning.allocation import global_, keep_highest
from safs_ray.randomness import derive, generator
from safs_ray.stages import Result
from safs_ray.training import Context, Training, train

EPOCHS, SHOWN = 8, (1, 2, 4)
"""Of every training, and after how many of them the validation accuracy is shown."""

CHOSEN = Hyperparameters(learning_rate=2e-3, weight_decay=1e-4, batch_size=256, schedule="cosine")


def ticket(initial: Network, trained: Network, sparsity: float) -> Network:
    magnitudes = {name: weight.abs() for name, weight in trained.prunable().items()}
    return initial.masked(global_(magnitudes, sparsity))


def at_random(initial: Network, trained: Network, sparsity: float) -> Network:
    """As many weights in every layer."""
    masks = ticket(initial, trained, sparsity).masks
    drawn = {name: torch.rand(mask.shape, generator=generator(0, "ticket", name)) for name, mask in masks.items()}
    return initial.masked({name: keep_highest(drawn[name], int((~mask).sum())) for name, mask in masks.items()})


def scaled(order: int) -> Callable[[Network, Network, float], Network]:
    """Of the initial network, every weight tensor scaled to the ticket's norm of an order."""

    def make(initial: Network, trained: Network, sparsity: float) -> Network:
        state = dict(initial.state)
        for name, sparse in ticket(initial, trained, sparsity).prunable().items():
            state[name] = state[name] * (sparse.norm(order) / state[name].norm(order))
        return replace(initial, state=state)

    return make


KINDS: dict[str, Callable[[Network, Network, float], Network]] = {
    "ticket": ticket,
    "random mask": at_random,
    "dense": lambda initial, _trained, _sparsity: initial,
    "dense, L1 norms of the ticket": scaled(1),
    "dense, L2 norms of the ticket": scaled(2),
}


def main() -> None:
    parser = parser_of_cells(__doc__)
    parser.add_argument("--sparsity", type=float, default=0.9)
    arguments = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    file, cells = cells_in(arguments.output, "tickets.json")
    made = {(cell["seed"], cell["sparsity"], cell["kind"]) for cell in cells}
    for seed in arguments.seeds:
        setting = configure(arguments.words, seed)
        folds = stages.folds(setting, stages.load(setting))
        trained = train_dense(setting, folds, arguments.dense).network
        initial = Network.initial(trained.specification, derive(seed, "dense"))
        for kind, make in KINDS.items():
            if (seed, arguments.sparsity, kind) not in made:
                network = make(initial, trained, arguments.sparsity)
                place = {"seed": seed, "sparsity": arguments.sparsity, "kind": kind}
                cells.append(place | measure(network, setting, folds))
                file.write_text(json.dumps(cells, indent=1) + "\n")
                print(json.dumps(cells[-1]), flush=True)
    show(cells)


def measure(network: Network, setting: Configuration, folds: Folds) -> Cell:
    """What became of a network."""
    course: list[float] = []
    context = Context(setting, folds.search(), report=lambda _, accuracy: course.append(accuracy))
    norms = [sum(weight.norm(order).item() for weight in network.prunable().values()) for order in (1, 2)]
    done = train(network, Training(context, CHOSEN, EPOCHS, derive(setting.run.seed, "ticket")), "--seeds")
    tested = stages.test(Result(*done), Context(setting, folds.final(0)))
    return {"L1": norms[0], "L2": norms[1], "validation": course, "test": tested.test_accuracy}


def show(cells: Sequence[Cell]) -> None:
    """Print accuracies in per cent."""
    headings = [f"after {count}" for count in SHOWN]
    print(f"| sparsity | network | seeds | L1 | L2 | {' | '.join(headings)} | test after {EPOCHS} |")
    print("|" + "---|" * (6 + len(SHOWN)))
    groups: dict[tuple[float, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[cell["sparsity"], cell["kind"]].append(cell)
    for (sparsity, kind), own in groups.items():
        norms = [sum(cell[norm] for cell in own) / len(own) for norm in ("L1", "L2")]
        on_the_way = [spread([cell["validation"][count - 1] for cell in own]) for count in SHOWN]
        print(
            f"| {sparsity:.0%} | {kind} | {len(own)} | {norms[0]:.0f} | {norms[1]:.1f} | {' | '.join(on_the_way)} | "
            f"{spread([cell['test'] for cell in own])} |"
        )


if __name__ == "__main__":
    main()
