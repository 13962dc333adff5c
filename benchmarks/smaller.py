"""What runtimes gain from channels that are gone: networks with half, a quarter and a tenth of their multiply-adds.

    python benchmarks/smaller.py                    VGG-16, ResNet-18 and MobileNetV2
    python benchmarks/smaller.py vgg16 --macs 0.5

Initial weights, channels by magnitude, the same fraction of every layer. Every network is exported with dense weights
and run by torch (channels_last), ONNX Runtime and, where it is installed, OpenVINO in float32, on one thread; the
networks of one runtime take turns. Prints milliseconds, medians, and how many times less than of the whole network.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import inference
import torch
from inference import Classify, dense_network, images_of
from timing import medians

import safs_ray
from safs_ray import export
from safs_ray.config import PruningSection
from safs_ray.export.slim import deploy
from safs_ray.network import Network
from safs_ray.pruning.structure import select


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["vgg16", "resnet18", "mobilenet_v2"])
    parser.add_argument("--macs", nargs="+", type=float, default=[0.5, 0.25, 0.1])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 64])
    parser.add_argument("--seconds", type=float, default=5.0, help="for each line of the table")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"| network | images | runtime | ms | {' | '.join(f'{share:.0%}' for share in arguments.macs)} | ratios |")
    print("|" + "---|" * (5 + len(arguments.macs)))
    for model in arguments.models:
        whole = dense_network(model, "relu")
        networks = [whole, *(smaller(whole, share) for share in arguments.macs)]
        runs: dict[str, list[Classify]] = {"torch": [as_torch(each) for each in networks]}
        for each in networks:
            for runtime, run in of_onnx(each).items():
                runs.setdefault(runtime, []).append(run)
        for batch in arguments.batches:
            images = images_of(model, batch)
            for runtime, ways in runs.items():
                calls = inference.MANY if batch == 1 else inference.FEW
                first, *others = medians([partial(run, images) for run in ways], arguments.seconds, 5, calls)
                columns = [f"{1000 * each:.3g}" for each in (first, *others)]
                ratios = ", ".join(f"{first / each:.1f}" for each in others)
                print(f"| {model} | {batch} | {runtime} | {' | '.join(columns)} | {ratios} |", flush=True)


def smaller(network: Network, share: float) -> Network:
    """The network without channels, until a share of its multiply-adds is left."""
    scores = {name: weight.abs() for name, weight in network.prunable().items()}
    masks = select(scores, 1 - share, PruningSection(macs=share), {}, network)
    return network.masked(masks)


def as_torch(network: Network) -> Classify:
    """Without the channels that are gone, as torch executes it."""
    return torch.inference_mode()(deploy(network)[0].to(memory_format=torch.channels_last))


def of_onnx(network: Network) -> Mapping[str, Classify]:
    """The exported file, as each runtime that is installed executes it."""
    with TemporaryDirectory() as folder:
        place = Path(folder)
        export.write(network, "onnx", safs_ray.Folder.at(place / "dense weights"), dense_weights=True)
        runtimes = [name for name in ("ONNX Runtime", "OpenVINO") if name != "OpenVINO" or find_spec("openvino")]
        return {name: inference.WAYS[name](place, 1) for name in runtimes}


if __name__ == "__main__":
    main()
