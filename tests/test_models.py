from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from torch import fx, nn

from safs_ray.activations import SitedNetwork, find_sites
from safs_ray.config import ConfigurationError
from safs_ray.models import ARCHITECTURES, Specification, build
from safs_ray.models.local_vit import Block, SelfAttention
from safs_ray.operators import OPERATORS
from safs_ray.pruning.masks import prunable_weights


def specification(model: str, size: int, channels: int = 1, classes: int = 10) -> Specification:
    exclude = ARCHITECTURES[model].exclude if model in ARCHITECTURES else ()
    return Specification(model, (channels, size, size), classes, (0.5,) * channels, (0.25,) * channels, exclude)


def prunable(module: nn.Module) -> int:
    return sum(weight.numel() for weight in prunable_weights(module).values())


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def built_without_memory(wanted: Specification) -> nn.Module:
    """The network with shapes and no weights."""
    with torch.device("meta"):
        return build(wanted, seed=0)


def shapes_within(module: nn.Module, wanted: Specification, *paths: str) -> list[tuple[int, ...]]:
    """The shapes of what submodules of a network without memory return."""
    seen: list[tuple[int, ...]] = []
    for path in paths:
        module.get_submodule(path).register_forward_hook(lambda *call: seen.append(tuple(call[2].shape)))
    module(wanted.example().to("meta"))
    return seen


def sites_of(wanted: Specification) -> SitedNetwork:
    """The network's sites, once it is sure that it is traced and computes the same with them, bit for bit."""
    module = build(wanted, seed=0)
    images = torch.rand(wanted.example().shape, generator=torch.Generator().manual_seed(0))
    sited = find_sites(module, images, wanted.exclude)
    assert isinstance(sited.module, fx.GraphModule)
    installed = sited.install([OPERATORS[name] for name in sited.defaults])
    with torch.no_grad():
        for training in (False, True):
            assert torch.equal(installed.train(training)(images), module.train(training)(images))
    return sited


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
        original = Specification("vgg16", (3, 32, 32), 100, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), ("a*", "b"))
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


class TestEfficientNetB0:
    def test_on_large_images_is_the_published_one(self) -> None:
        wanted = specification("efficientnet_b0", 224, channels=3, classes=1000)
        module = built_without_memory(wanted)
        assert parameters(module) == 5_288_548
        assert shapes_within(module, wanted, "features.0", "features.8") == [(2, 32, 112, 112), (2, 1280, 7, 7)]

    def test_keeps_a_resolution_of_small_images_that_resnet18_keeps(self) -> None:
        wanted = specification("efficientnet_b0", 32, channels=3)
        seen = shapes_within(built_without_memory(wanted), wanted, "features.0", "features.2", "features.8")
        assert seen == [(2, 32, 32, 32), (2, 24, 32, 32), (2, 1280, 4, 4)]

    @pytest.mark.parametrize("size", [8, 16, 63, 64])
    def test_takes_gray_images(self, size: int) -> None:
        module = built_without_memory(specification("efficientnet_b0", size))
        assert prunable_weights(module)["features.0.0.weight"].shape == (32, 1, 3, 3)
        assert module(torch.zeros(2, 1, size, size, device="meta")).shape == (2, 10)

    def test_sites_are_all_swish_and_gates_are_none(self) -> None:
        sited = sites_of(specification("efficientnet_b0", 16, channels=3))
        assert len(sited.sites) == 1 + 1 + 15 * 2 + 1
        assert set(sited.defaults) == {"swish"}
        assert len(sited.excluded) == 16
        assert sited.excluded[0] == "features.1.0.block.1.activation"

    def test_gates_are_sites_when_asked(self) -> None:
        assert len(sites_of(replace(specification("efficientnet_b0", 16), exclude=())).sites) == 33 + 16

    def test_refuses_smaller_images(self) -> None:
        assert message(specification("efficientnet_b0", 7)).startswith("data.size: efficientnet_b0 takes images of 8x8")


class TestLocalViTT:
    def test_on_large_images_is_the_published_one_without_its_last_feed_forward_layer(self) -> None:
        """5.9 million weights are published; the last layer's 312,196 have no way to the logits."""
        module = built_without_memory(specification("localvit_t", 224, channels=3, classes=1000))
        layer = parameters(module.get_submodule("blocks.0.feed_forward"))
        assert layer == 312_196
        assert parameters(module) + layer == 5_908_696

    @pytest.mark.parametrize(("size", "tokens"), [(16, 17), (28, 50), (32, 65), (64, 17), (224, 197)])
    def test_patches_are_of_4_pixels_in_small_images_and_of_16_in_large_ones(self, size: int, tokens: int) -> None:
        wanted = specification("localvit_t", size)
        module = built_without_memory(wanted)
        assert shapes_within(module, wanted, "blocks.10") == [(2, tokens, 192)]

    @pytest.mark.parametrize(("size", "patch"), [(30, 4), (72, 16)])
    def test_refuses_sizes_that_are_no_multiple_of_a_patch(self, size: int, patch: int) -> None:
        assert message(specification("localvit_t", size)).startswith(
            f"data.size: localvit_t takes images of a multiple of {patch} pixels, "
        )

    def test_sites_are_the_h_swishes(self) -> None:
        sited = sites_of(specification("localvit_t", 16))
        assert len(sited.sites) == 22
        assert sited.sites[:2] == ("blocks.0.feed_forward.act1", "blocks.0.feed_forward.act2")
        assert set(sited.defaults) == {"hardswish"}
        assert len(sited.excluded) == 11

    def test_attention_is_torchs_multi_head_attention(self) -> None:
        own, reference = SelfAttention().eval(), nn.MultiheadAttention(192, 4, batch_first=True).eval()
        with torch.no_grad():
            reference.in_proj_weight.copy_(own.query_key_value.weight)
            reference.in_proj_bias.copy_(own.query_key_value.bias)
            reference.out_proj.load_state_dict(own.projection.state_dict())
            tokens = torch.randn(2, 7, 192, generator=torch.Generator().manual_seed(0))
            normed = own.norm(tokens)
            torch.testing.assert_close(own(tokens), tokens + reference(normed, normed, normed)[0])

    def test_the_feed_forward_layer_sees_the_neighbours_of_a_token_and_never_the_class_token(self) -> None:
        block = Block((4, 4)).eval()
        block.attention = nn.Identity()  # type: ignore[assignment]
        block.feed_forward.excitation = nn.Identity()  # it looks at all
        tokens = torch.randn(1, 17, 192, generator=torch.Generator().manual_seed(0))
        other = tokens.clone()
        other[0, 1 + 4 * 1 + 3] += 1  # row 1, column 3, at the right edge
        with torch.no_grad():
            changed = (block(tokens) != block(other)).any(2)[0]
        assert changed.nonzero().flatten().tolist() == [1 + 4 * row + column for row in (0, 1, 2) for column in (2, 3)]
        other[0, 0] += 1
        with torch.no_grad():
            assert torch.equal(block(other)[0, 0], other[0, 0])


class TestNewNetworks:
    @pytest.mark.parametrize("model", ["efficientnet_b0", "localvit_t"])
    def test_training_draws_no_random_numbers(self, model: str) -> None:
        wanted = specification(model, 8, channels=3)
        module = build(wanted, seed=0).train()
        images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        before = torch.get_rng_state()
        assert torch.equal(module(images), module(images))
        assert torch.equal(torch.get_rng_state(), before)


class TestBuild:
    def test_an_unknown_architecture_is_told_with_the_known_ones(self) -> None:
        assert message(specification("lenet", 28)) == (
            "model.name=lenet: allowed: lenet5, mlp, vgg16, resnet18, efficientnet_b0, localvit_t or "
            "package.module:function"
        )

    @pytest.mark.parametrize("model", ["lenet5", "mlp", "resnet18", "efficientnet_b0", "localvit_t"])
    def test_weights_follow_from_the_seed(self, model: str) -> None:
        wanted = specification(model, 28)
        first, again, other = (build(wanted, seed) for seed in (0, 0, 1))
        for name, weight in prunable_weights(first).items():
            assert torch.equal(weight, prunable_weights(again)[name]), name
            assert not torch.equal(weight, prunable_weights(other)[name]), name

    @pytest.mark.parametrize("model", ["lenet5", "mlp", "resnet18", "efficientnet_b0", "localvit_t"])
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
