from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

from safs_ray.config import ConfigurationError
from safs_ray.models import ARCHITECTURES, Specification, build
from safs_ray.pruning.masks import prunable_weights


def specification(model: str, size: int, channels: int = 1, classes: int = 10) -> Specification:
    return Specification(model, channels, size, classes, (0.5,) * channels, (0.25,) * channels)


def prunable(module: nn.Module) -> int:
    return sum(weight.numel() for weight in prunable_weights(module).values())


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def built_without_memory(wanted: Specification) -> nn.Module:
    """The network with shapes and no weights."""
    with torch.device("meta"):
        return build(wanted, seed=0)


def message(wanted: Specification) -> str:
    """The message with which images or an architecture are refused; one line."""
    with pytest.raises(ConfigurationError) as refused:
        build(wanted, seed=0)
    text = str(refused.value)
    assert text == " ".join(text.splitlines())
    return text


class TestSpecification:
    def test_an_example_is_a_batch_of_zeros_that_the_network_accepts(self) -> None:
        example = specification("lenet5", 28, channels=3).example(5)
        assert example.shape == (5, 3, 28, 28)
        assert not example.any()
        assert specification("lenet5", 28).example().shape == (2, 1, 28, 28)

    def test_json_round_trips(self) -> None:
        original = Specification("vgg16", 3, 32, 100, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
        assert Specification.from_json(json.loads(json.dumps(original.as_json()))) == original


class TestLeNet5:
    def test_has_44190_prunable_weights_at_28_pixels(self) -> None:
        module = build(specification("lenet5", 28), seed=0)
        assert {name: tuple(weight.shape) for name, weight in prunable_weights(module).items()} == {
            "conv1.weight": (6, 1, 5, 5),
            "conv2.weight": (16, 6, 5, 5),
            "fc1.weight": (120, 256),
            "fc2.weight": (84, 120),
            "fc3.weight": (10, 84),
        }
        assert prunable(module) == 44_190
        assert parameters(module) == 44_190 + 6 + 16 + 120 + 84 + 10

    def test_has_400_flattened_values_at_32_pixels(self) -> None:
        assert prunable_weights(build(specification("lenet5", 32), seed=0))["fc1.weight"].shape == (120, 400)

    @pytest.mark.parametrize("size", [28, 32])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_takes_gray_and_coloured_images(self, size: int, channels: int) -> None:
        wanted = specification("lenet5", size, channels, classes=7)
        assert build(wanted, seed=0)(wanted.example(3)).shape == (3, 7)

    @pytest.mark.parametrize("size", [8, 27, 30, 64])
    def test_refuses_other_sizes(self, size: int) -> None:
        assert message(specification("lenet5", size)) == (
            f"data.size: lenet5 takes images of 28x28 or 32x32, these have {size}x{size}; data.size=PIXELS resizes them"
        )


class TestMlp:
    @pytest.mark.parametrize(("size", "channels", "weights"), [(28, 1, 266_200), (1, 1, 31_300), (8, 3, 88_600)])
    def test_takes_images_of_any_size(self, size: int, channels: int, weights: int) -> None:
        wanted = specification("mlp", size, channels)
        module = build(wanted, seed=0)
        assert prunable(module) == weights
        assert module(wanted.example(2)).shape == (2, 10)


class TestVgg16:
    def test_has_the_known_weights_on_small_images(self) -> None:
        wanted = specification("vgg16", 32, channels=3)
        module = build(wanted, seed=0)
        assert prunable(module) == 14_710_464 + 2 * 512 * 512 + 512 * 10
        assert not any(isinstance(child, nn.Dropout) for child in module.modules())
        assert module.eval()(wanted.example(1)).shape == (1, 10)
        convolutions = [child for child in module.modules() if isinstance(child, nn.Conv2d)]
        assert len(convolutions) == 13
        for convolution in convolutions:
            assert convolution.bias is not None
            assert not convolution.bias.any()
            assert convolution.weight.std().item() == pytest.approx(
                math.sqrt(2 / (9 * convolution.out_channels)), rel=0.1
            )

    def test_on_large_images_is_the_published_one(self) -> None:
        module = built_without_memory(specification("vgg16", 224, channels=3, classes=1000))
        assert parameters(module) == 138_365_992
        assert prunable(module) == 138_344_128

    @pytest.mark.parametrize("size", [32, 63, 64])
    def test_takes_gray_images(self, size: int) -> None:
        module = built_without_memory(specification("vgg16", size))
        assert prunable_weights(module)["features.0.weight"].shape == (64, 1, 3, 3)
        assert module(torch.zeros(2, 1, size, size, device="meta")).shape == (2, 10)

    def test_refuses_smaller_images(self) -> None:
        assert message(specification("vgg16", 31)).startswith("data.size: vgg16 takes images of 32x32 or more, ")


class TestResNet18:
    def test_has_the_known_weights_on_small_images(self) -> None:
        wanted = specification("resnet18", 32, channels=3)
        module = build(wanted, seed=0)
        assert parameters(module) == 11_173_962
        assert module.eval()(wanted.example(1)).shape == (1, 10)

    def test_keeps_the_resolution_of_small_images_in_its_stem(self) -> None:
        module = built_without_memory(specification("resnet18", 32, channels=3))
        seen: list[tuple[int, ...]] = []
        module.get_submodule("layer1").register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
        module(torch.zeros(2, 3, 32, 32, device="meta"))
        assert seen == [(2, 64, 32, 32)]

    def test_on_large_images_is_the_published_one(self) -> None:
        assert parameters(built_without_memory(specification("resnet18", 224, channels=3, classes=1000))) == 11_689_512

    @pytest.mark.parametrize(("size", "kernel"), [(8, 3), (63, 3), (64, 7)])
    def test_takes_gray_images(self, size: int, kernel: int) -> None:
        module = built_without_memory(specification("resnet18", size))
        assert prunable_weights(module)["conv1.weight"].shape == (64, 1, kernel, kernel)
        assert module(torch.zeros(2, 1, size, size, device="meta")).shape == (2, 10)

    def test_refuses_smaller_images(self) -> None:
        assert message(specification("resnet18", 7)).startswith("data.size: resnet18 takes images of 8x8 or more, ")


class TestBuild:
    def test_an_unknown_architecture_is_told_with_the_known_ones(self) -> None:
        assert message(specification("lenet", 28)) == "model.name=lenet: allowed: lenet5, mlp, vgg16, resnet18"

    @pytest.mark.parametrize("model", ["lenet5", "mlp", "resnet18"])
    def test_weights_follow_from_the_seed(self, model: str) -> None:
        wanted = specification(model, 28)
        first, again, other = (build(wanted, seed) for seed in (0, 0, 1))
        for name, weight in prunable_weights(first).items():
            assert torch.equal(weight, prunable_weights(again)[name]), name
            assert not torch.equal(weight, prunable_weights(other)[name]), name

    @pytest.mark.parametrize("model", ["lenet5", "mlp", "resnet18"])
    def test_the_global_generator_is_neither_read_nor_changed(self, model: str) -> None:
        torch.manual_seed(5)
        before = torch.get_rng_state()
        first = build(specification(model, 28), seed=0)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(6)
        again = build(specification(model, 28), seed=0)
        for one, other in zip(first.parameters(), again.parameters(), strict=True):
            assert torch.equal(one, other)

    def test_the_global_generator_stays_as_it_was_when_images_are_refused(self) -> None:
        before = torch.get_rng_state()
        message(specification("lenet5", 9))
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize("model", list(ARCHITECTURES))
    def test_a_network_is_built_for_training(self, model: str) -> None:
        module = built_without_memory(specification(model, 32))
        assert all(child.training for child in module.modules())
        assert all(parameter.requires_grad for parameter in module.parameters())
