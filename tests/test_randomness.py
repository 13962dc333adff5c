from __future__ import annotations

import hashlib

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from safs_ray.randomness import derive, generator


def test_a_seed_is_the_first_63_bits_of_the_sha256_of_seed_and_purpose() -> None:
    digits = hashlib.sha256(b"7/batches/3").hexdigest()[:16]
    assert derive(7, "batches", 3) == int(digits, 16) // 2 == 5_558_990_179_469_967_019


def test_a_seed_without_a_purpose_is_derived_too() -> None:
    assert derive(0) == int(hashlib.sha256(b"0").hexdigest()[:16], 16) // 2


def test_seeds_differ_by_run_purpose_and_index() -> None:
    purposes: list[tuple[str | int, ...]] = [(), ("batches",), ("augmentation",), ("batches", 0), ("batches", 1)]
    seeds = [derive(seed, *purpose) for seed in range(20) for purpose in purposes]
    assert len(set(seeds)) == len(seeds) == 100


@settings(deadline=None, derandomize=True)
@given(st.integers(), st.text(), st.integers())
def test_seeds_fit_a_torch_generator_and_repeat(seed: int, purpose: str, index: int) -> None:
    derived = derive(seed, purpose, index)
    assert 0 <= derived < 2**63
    assert derive(seed, purpose, index) == derived
    assert torch.Generator().manual_seed(derived).initial_seed() == derived


def test_generators_of_one_purpose_draw_alike_and_of_others_not() -> None:
    first, again = (torch.rand(8, generator=generator(3, "split")) for _ in range(2))
    other_purpose = torch.rand(8, generator=generator(3, "batches"))
    other_seed = torch.rand(8, generator=generator(4, "split"))
    assert torch.equal(first, again)
    assert not torch.equal(first, other_purpose)
    assert not torch.equal(first, other_seed)
    assert generator(3, "split").initial_seed() == derive(3, "split")


def test_the_global_generator_is_neither_read_nor_changed() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = torch.rand(4, generator=generator(0, "split"))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(torch.rand(4, generator=generator(0, "split")), first)
