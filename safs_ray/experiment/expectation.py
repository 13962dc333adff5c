"""What a search is likely to gain, by what it gained where it was measured."""

from __future__ import annotations

from safs_ray.config import AUTO, RECIPES, Configuration, PruningSection

SOURCE = "results/README.md#pruners"
"""Where the figures are from: LeNet-5 on MNIST, means of three dense networks, Adam 1e-2, 16 epochs."""

RECORDED: dict[str, dict[float, tuple[float, float]]] = {
    "one-shot-layer": {0.9: (98.2, 0.0), 0.95: (96.4, 0.6), 0.98: (64.5, 17.6), 0.99: (32.2, 13.3), 0.995: (14.8, 8.5)},
    "one-shot-global": {
        0.9: (98.9, -0.1), 0.95: (98.7, -0.1), 0.98: (97.0, 0.5), 0.99: (88.4, 4.3), 0.995: (37.1, 14.3)
    },
    "erk": {0.9: (98.9, 0.0), 0.95: (98.3, 0.0), 0.98: (93.5, 1.9), 0.99: (68.7, 15.3), 0.995: (22.7, 13.5)},
    "synflow": {0.9: (98.9, 0.0), 0.95: (98.6, 0.0), 0.98: (97.2, 0.3), 0.99: (94.0, 1.2), 0.995: (86.8, 2.1)},
    "gradual": {0.9: (99.0, 0.0), 0.95: (98.9, -0.1), 0.98: (98.2, 0.1), 0.99: (96.2, 0.2), 0.995: (85.5, 1.9)},
    "gsm": {0.98: (98.6, 0.0), 0.99: (97.5, 0.1), 0.995: (93.6, 0.4)},
    "rigl": {0.98: (96.8, 0.1), 0.99: (93.3, 0.7), 0.995: (84.9, 0.4)},
    "swamp": {0.98: (98.1, 0.0), 0.99: (94.4, 0.4), 0.995: (84.2, 1.0)},
}  # fmt: skip
"""By pruning recipe and sparsity: test accuracy of the pruned network with ReLU, in per cent, and the gain of a search
of its activations, in points."""


def expectation(configuration: Configuration) -> str:
    """One line on what to expect from the search; empty where nothing like it was measured.

    Examples:
        >>> from safs_ray.config import validate
        >>> expectation(validate({"pruning": {"recipe": "gradual", "sparsity": 0.985}}))
        'LeNet-5 on MNIST at 98% by gradual: ReLU 98.2%, gain of the search 0.1 points (results/README.md#pruners)'
    """
    section = configuration.pruning
    recipe = _recipe(section)
    known = not configuration.model.pruned and configuration.task.loop is None
    if not known or section.structure != "unstructured" or recipe is None:
        return ""
    sparsity = min(RECORDED[recipe], key=lambda known: abs(known - section.sparsity))
    relu, gain = RECORDED[recipe][sparsity]
    measured = f"LeNet-5 on MNIST at {100 * sparsity:g}% by {recipe}"
    return f"{measured}: ReLU {relu}%, gain of the search {gain} points ({SOURCE})"


def _recipe(section: PruningSection) -> str | None:
    """The recorded recipe that a section stands for, whether it names it or not."""
    if section.recipe == AUTO:
        return None
    alike = (name for name in RECORDED if all(getattr(section, key) == value for key, value in _chosen(name)))
    return next(alike, None)


def _chosen(name: str) -> list[tuple[str, object]]:
    return [(key, RECIPES[name].keys[key]) for key in ("score", "allocation", "schedule")]
