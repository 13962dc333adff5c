"""Sparse reinforcement learning: policies of a few dozen weights, their activations found by the return that they earn.

    pip install 'safs_ray[examples]'
    python examples/control.py                        # both games, one seed, in minutes
    python examples/control.py --seeds 5 --table table.md

CartPole is learned by REINFORCE from its rewards alone; Pendulum, whose actions are continuous, by imitation of a
scripted teacher in the states that the policy itself gets into (DAgger). Every score is a mean return over episodes of
fixed seeds, others for the last line of the table than for what is chosen.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

import safs_ray
from safs_ray import Sparsified
from safs_ray.training import LoopContext

EPISODES = 16
"""Episodes that are played side by side."""

VALIDATION, TEST = 1_000_000, 2_000_000
"""The seeds of the episodes that scores are measured on; those of training are others."""

Steps = Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]
"""Observations (episodes, …), actions, rewards (episodes,), and whether an episode was still going on (episodes,)."""


def play(name: str, seed: int, act: Callable[[Tensor], Tensor], most: int = 500) -> Steps:
    """Play episodes side by side, to their ends or for so many steps.

    Args:
        act: actions for observations (episodes, …).
    """
    games = gymnasium.make_vec(name, num_envs=EPISODES)
    observations, _ = games.reset(seed=seed)
    alive = np.ones(EPISODES, dtype=bool)
    for _ in range(most):
        if not alive.any():
            break
        seen = torch.as_tensor(observations, dtype=torch.float32)
        actions = act(seen)
        observations, rewards, terminated, truncated, _ = games.step(actions.numpy())
        yield seen, actions, torch.as_tensor(rewards, dtype=torch.float32), torch.from_numpy(alive.copy())
        alive &= ~(terminated | truncated)


@torch.no_grad()
def returns(name: str, module: nn.Module, decide: Callable[[Tensor], Tensor], test: bool) -> float:
    """The mean return of a policy over the episodes that scores are measured on."""
    module.eval()
    steps = play(name, TEST if test else VALIDATION, lambda seen: decide(module(seen)))
    return sum((rewards * alive).sum().item() for _, _, rewards, alive in steps) / EPISODES


# CartPole: push a cart to the left or to the right so that its pole stays upright; a return of 500 is perfect.


HORIZON = 200
"""Steps of an episode that are learned from: who balances so long goes on to do so."""


def reinforce(module: nn.Module, context: LoopContext) -> float:
    """Learn CartPole from its rewards: every step is made more likely by what was earned after it (Williams 1992)."""
    optimizer = context.optimizer()
    for epoch in range(1, context.epochs + 1):
        module.train()
        with torch.no_grad():
            steps = list(play("CartPole-v1", context.seed + epoch, lambda seen: sample(module(seen)), HORIZON))
        seen, actions, rewards, alive = (torch.stack(part) for part in zip(*steps, strict=True))
        advantages = better_than_the_others(rewards * alive, alive)
        losses = cross_entropy(module(seen[alive]), actions[alive], reduction="none")
        optimizer.zero_grad()
        (losses * advantages[alive]).mean().backward()
        optimizer.step()
        context.report(epoch, (rewards * alive).sum().item() / EPISODES)
    return returns("CartPole-v1", module, lambda logits: logits.argmax(1), context.test)


def sample(logits: Tensor) -> Tensor:
    """Actions (N,) drawn by their logits (N, actions)."""
    return logits.softmax(1).multinomial(1)[:, 0]


def better_than_the_others(rewards: Tensor, alive: Tensor, discount: float = 0.99) -> Tensor:
    """By how much what was earned after a step exceeds the mean of all episodes at that time (steps, episodes)."""
    earned = torch.zeros_like(rewards)
    ahead = torch.zeros(rewards.shape[1])
    for step in reversed(range(len(rewards))):
        ahead = rewards[step] + discount * ahead
        earned[step] = ahead
    centred = earned - earned.mean(1, keepdim=True)
    return centred / centred[alive].std().clamp(min=1e-6)


# Pendulum: swing up a pendulum with too little torque, and hold it; a return of -150 is about perfect.


def imitate(module: nn.Module, context: LoopContext) -> float:
    """Learn Pendulum from a teacher that says what it would do wherever the policy gets (Ross et al. 2011)."""
    optimizer, known = context.optimizer(), list[Tensor]()
    for epoch in range(1, context.epochs + 1):
        with torch.no_grad():
            leader = teacher if epoch == 1 else (lambda seen: torque(module(seen)))
            known += [seen for seen, _, _, _ in play("Pendulum-v1", context.seed + epoch, leader)]
        states = torch.cat(known)
        wanted = teacher(states) / 2
        module.train()
        for chosen in torch.randperm(len(states)).split(256):
            optimizer.zero_grad()
            mse_loss(module(states[chosen]).tanh(), wanted[chosen]).backward()
            optimizer.step()
        context.report(epoch, -mse_loss(module(states).tanh(), wanted).item())
    return returns("Pendulum-v1", module, torque, context.test)


def torque(outputs: Tensor) -> Tensor:
    """Torques (N, 1) in [-2, 2]."""
    return 2 * outputs.tanh()


def teacher(states: Tensor) -> Tensor:
    """Torques (N, 1): swing up by energy, and near the top hold by angle and velocity (Astrom & Furuta 2000)."""
    upright, sideways, velocity = states.unbind(1)
    energy = velocity**2 / 6 + 5 * (upright - 1)  # 0 at rest on top; of a rod of mass 1 and length 1, with g = 10
    swing = torch.where(energy < 0, 2.0, -2.0) * torch.where(velocity == 0, 1.0, velocity.sign())
    hold = -12 * torch.atan2(sideways, upright) - 3 * velocity
    return torch.where(upright > 0.85, hold, swing).clamp(-2, 2)[:, None]


@dataclass(frozen=True)
class Game:
    """What is learned, and how.

    Attributes:
        loop: trains a policy.
        inputs, outputs: of the policy.
        epochs: of a whole training.
        rate: learning rate of the first trial.
    """

    loop: Callable[[nn.Module, LoopContext], float]
    inputs: int
    outputs: int
    epochs: int
    rate: float


GAMES = {
    "CartPole-v1": Game(reinforce, inputs=4, outputs=2, epochs=25, rate=2e-2),
    "Pendulum-v1": Game(imitate, inputs=3, outputs=1, epochs=8, rate=5e-3),
}


def sparse_policy(
    game: Game, activation: type[nn.Module], sparsity: float, seed: int, settings: Sequence[str]
) -> Sparsified:
    """Train a policy with an activation, prune it, and search the activations that suit what is left."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        policy = nn.Sequential(
            nn.Linear(game.inputs, 64), activation(), nn.Linear(64, 64), activation(), nn.Linear(64, game.outputs)
        )
    chosen = [
        f"run.seed={seed}",
        f"dense.hyperparameters.learning_rate={game.rate}",
        f"pruning.hyperparameters.learning_rate={game.rate}",
        *("tune.trials=1", "search.steps=6", "final.finalists=1", "final.seeds=2", "run.verbose=0"),
        *settings,
    ]
    observations = torch.randn(64, game.inputs, generator=torch.Generator().manual_seed(0))
    return safs_ray.sparsify_with(game.loop, policy, observations, game.epochs, sparsity, chosen)


def returns_of(results: dict[str, Any]) -> dict[str, float]:
    """The returns of the test, by row of the table."""
    return {row["name"]: row["test_accuracy"]["mean"] for row in results["rows"]}


COLUMNS = {
    "dense, ReLU": ("dense", "ReLU"),
    "ReLU": ("pruned", "ReLU"),
    "tanh": ("pruned", "Tanh"),
    "SAFS from ReLU": ("SAFS", "ReLU"),
    "SAFS from tanh": ("SAFS", "Tanh"),
}
"""The columns of the table: a row of a run's table, and the activation that the policy begins with."""

Found = dict[tuple[str, float, str, str], list[float]]
"""Returns by game, sparsity, row and activation, one for each seed."""


def table(found: Found) -> list[str]:
    """The table, as far as it is known."""
    lines = [f"| game | sparsity | {' | '.join(COLUMNS)} |", "|---" * (2 + len(COLUMNS)) + "|"]
    for name, sparsity in dict.fromkeys((name, sparsity) for name, sparsity, _, _ in found):
        cells = [spread(found.get((name, sparsity, *column), [])) for column in COLUMNS.values()]
        lines.append(f"| {name} | {100 * sparsity:g}% | {' | '.join(cells)} |")
    return lines


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    return f"{mean(values):.0f} ± {stdev(values):.0f}" if len(values) > 1 else f"{mean(values):.0f}" if values else ""


def main(words: Sequence[str] | None = None) -> None:
    """Print the table after every seed."""
    parser = argparse.ArgumentParser(description="Sparse policies for control.")
    parser.add_argument("--games", nargs="+", default=list(GAMES), choices=list(GAMES))
    parser.add_argument("--sparsities", nargs="+", type=float, default=[0.95, 0.99])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--table", type=Path, help="file for the table")
    parser.add_argument("--settings", nargs="*", default=[], help="key.path=value, as the command takes them")
    chosen, found = parser.parse_args(words), Found()
    for seed in range(chosen.seeds):
        for name, sparsity, activation in product(chosen.games, chosen.sparsities, (nn.ReLU, nn.Tanh)):
            sparse = sparse_policy(GAMES[name], activation, sparsity, seed, chosen.settings)
            for row, value in returns_of(sparse.results).items():
                found.setdefault((name, sparsity, row, activation.__name__), []).append(value)
        print("\n".join([f"seeds: {seed + 1}", "", *table(found)]), flush=True)
        if chosen.table:
            chosen.table.write_text("\n".join([*table(found), ""]))


if __name__ == "__main__":
    main()
