"""Prune a network of your own and find the activations that suit it, in one process, without Ray.

    python examples/own_network.py

Yours are the network and the images.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

import safs_ray


def main() -> None:
    """Sparsify a network, look at what was gained, and take it away."""
    digits = load_digits()
    images, labels = torch.tensor(digits.images * 255 / 16).byte()[:, None], torch.tensor(digits.target)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 60), nn.ReLU(), nn.Linear(60, 30), nn.ReLU(), nn.Linear(30, 10))

    sparse = safs_ray.sparsify(
        network,
        train=(images[:1500], labels[:1500]),  # uint8 (N, C, H, W) and integers
        test=(images[1500:], labels[1500:]),
        sparsity=0.97,  # None for a network that you pruned yourself: its zeros stay
    )
    print(sparse)  # the table: what pruning cost, and what the search has gained

    logits = sparse.module(images[1500:])  # a torch module that computes with the nonzeros alone
    safs_ray.export.write(sparse.network, "torch", safs_ray.Folder.at("deployed"))  # or "onnx"
    exported = torch.export.load("deployed/network.pt2").module()  # needs no safs_ray
    print("largest difference of the export:", (exported(images[1500:]) - logits).abs().max().item())


if __name__ == "__main__":
    main()
