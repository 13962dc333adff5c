"""Find the activations that suit a network which you pruned yourself, in one process, without Ray.

    python examples/own_network.py

Yours are the function that builds the network, its pruned weights, and images and labels as tensors.
"""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.utils import prune

import safs_ray
from safs_ray import stages
from safs_ray.search.recipe import Recipe
from safs_ray.training import Context


def network() -> nn.Module:
    """Images (N, 1, 8, 8), normalised, to logits (N, 10)."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 60), nn.ReLU(), nn.Linear(60, 30), nn.ReLU(), nn.Linear(30, 10))


def pruned_network(images: Tensor, labels: Tensor) -> nn.Module:
    """Stands for what you have: trained by any means, then 95 in 100 weights of every layer set to zero."""
    torch.manual_seed(0)
    module = network()
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module((images / 255 - 0.3) / 0.4), labels).backward()
        optimizer.step()
    for layer in (module[1], module[3], module[5]):
        prune.remove(prune.l1_unstructured(layer, "weight", 0.95), "weight")
    return module


def main() -> None:
    """The search on it."""
    digits = load_digits()
    images, labels = torch.tensor(digits.images * 255 / 16).byte()[:, None], torch.tensor(digits.target)
    parts = (slice(1200), slice(1200, 1500), slice(1500, None))  # to train on, to choose by, to test with once
    splits = safs_ray.Splits(*(safs_ray.Examples(images[part], labels[part]) for part in parts))

    # The name of the function, for the network is built anew for every candidate and when it is loaded.
    specification = safs_ray.Specification("own_network:network", 1, 8, 10, mean=(0.3,), deviation=(0.4,))
    yours = safs_ray.Network.of(specification, pruned_network(splits.train.images, splits.train.labels))
    yours = yours.masked({name: weight != 0 for name, weight in yours.prunable().items()})  # zeros stay zeros

    run = safs_ray.config.validate({"search": {"steps": 8, "epochs": 4}, "final": {"epochs": 15}})
    chosen = safs_ray.config.Hyperparameters(learning_rate=0.01, batch_size=64)
    context = Context(run, splits)
    found = stages.search(yours, context, chosen)
    plain = stages.finish(yours, context, Recipe(yours.assignment, chosen, learn_scales=False), fold=0)
    best = stages.finish(yours, context, found.recipe, fold=0)
    print(f"test accuracy with {yours.nonzero_weights} of {yours.prunable_count} weights:")
    print(f"  {plain.test_accuracy:.3f}  {', '.join(yours.assignment)}")
    print(f"  {best.test_accuracy:.3f}  {', '.join(found.assignment)}, scales learned")

    safs_ray.export.write(best.network, "safetensors", safs_ray.Folder.at("deployed"))
    module = safs_ray.load("deployed")  # a torch module: uint8 images to logits
    accuracy = (module(splits.test.images).argmax(1) == splits.test.labels).float().mean()
    print(f"  {accuracy:.3f}  the same, from deployed/network.safetensors")


if __name__ == "__main__":
    main()
