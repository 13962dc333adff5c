from dataclasses import replace

from safs_ray.schedules import BLAMED, Task, prune_once
from safs_ray.training import TrainingResult, train


def two_cuts(task: Task) -> TrainingResult:
    """Prune a part of the weights and train for half of the epochs; then prune the rest and train again."""
    section, training, half = task.section, task.training, task.section.epochs // 2
    first_cut = section.model_copy(update={"sparsity": 1 - (1 - section.sparsity) ** 0.5})
    first = train(prune_once(task.network, first_cut, training), replace(training, epochs=half), BLAMED)
    rest = replace(training, epochs=section.epochs - half, seed=training.seed + 1, context=training.context.after(half))
    second = train(prune_once(first.network, section, training), rest, BLAMED)
    return second._replace(core_seconds_before=first.core_seconds_before + second.core_seconds_before)
