"""What the dense network teaches, from the stage that computes it to the trainings that learn from it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from safs_ray import config, stages
from safs_ray.config import Configuration, ConfigurationError, Execution
from safs_ray.data import Dataset, Examples, batches
from safs_ray.losses import CROSS_ENTROPY, CrossEntropy
from safs_ray.randomness import generator
from safs_ray.search.course import joint
from safs_ray.search.recipe import Recipe
from safs_ray.stages import Result
from safs_ray.training import Context, Trainer, sparse_training
from tests.conftest import TINY
from tests.stages.altered import changed
from tests.test_training import saved_and_loaded

DISTILLED = {"label_smoothing": 0.1, "distillation": {"share": 0.5, "temperature": 3.0}}


def distilled(execution: Execution = "sparse", **data: object) -> Configuration:
    values = {"training": DISTILLED, "run": {"execution": execution}, "data": {**TINY["data"], **data}}
    return config.validate({**TINY, **values})


@pytest.fixture(scope="module")
def taught(dense: Result, dataset: Dataset, context: Context) -> Dataset:
    """The images with what the dense network says of them."""
    return dataset.taught(stages.teach(dense, dataset.pool, context))


def seen(configuration: Configuration, taught: Dataset) -> Context:
    return Context(configuration, stages.folds(configuration, taught).search())


def test_teach_gives_the_logits_of_the_dense_network_in_the_order_of_the_pool(
    dense: Result, dataset: Dataset, taught: Dataset
) -> None:
    module = dense.network.build().eval()
    with torch.no_grad():
        expected = module(dense.network.specification.normalised(dataset.pool.inputs))
    assert taught.pool.taught is not None
    torch.testing.assert_close(taught.pool.taught, expected)
    assert taught.pool.taught.dtype == torch.float32
    assert dataset.pool.taught is None


def test_teach_refuses_a_network_that_knows_nothing(dense: Result, dataset: Dataset, context: Context) -> None:
    ignorant = replace(dense, validation_accuracy=0.1)
    told = (
        r"training\.distillation\.share=0.0: the dense network is no teacher: it classifies 10\.0 % .* a guess 12\.5 %"
    )
    with pytest.raises(ConfigurationError, match=told):
        stages.teach(ignorant, dataset.pool, context)


def test_teach_measures_a_guess_by_the_metric_of_the_run(dense: Result, dataset: Dataset, context: Context) -> None:
    """Of ten classes, by balanced accuracy: more than that is a teacher, though the largest class is larger."""
    balanced = changed(context.configuration, "data", metric="balanced accuracy")
    barely = replace(dense, validation_accuracy=0.11)
    logits = stages.teach(barely, dataset.pool, replace(context, configuration=balanced))
    assert logits.shape == (len(dataset.pool), 10)


def test_the_logits_follow_their_images_through_folds_batches_and_the_object_store(taught: Dataset) -> None:
    own = Dataset.from_arrays(taught.arrays())
    assert own.pool.taught is not None
    by_image = {image.numpy().tobytes(): logits for image, logits in zip(own.pool.inputs, own.pool.taught, strict=True)}
    configuration = distilled()
    folds = stages.folds(configuration, own)
    for examples in (folds.search().train, folds.final(1).train, folds.search().validation):
        for batch in batches(examples, 32, generator(0, "batches"), lambda images: images):
            assert batch.taught is not None
            for image, logits in zip(batch.inputs, batch.taught, strict=True):
                assert torch.equal(by_image[image.numpy().tobytes()], logits)
    assert own.without_test().pool.taught is not None


def test_examples_without_a_teacher_stay_without() -> None:
    examples = Examples(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1]))
    assert examples[:1].taught is None
    assert examples.to(torch.device("cpu")).targets.taught is None


def test_sparse_trainings_have_the_loss_of_the_section_and_the_dense_one_cross_entropy(
    taught: Dataset,
) -> None:
    context = seen(distilled(), taught)
    training = sparse_training(context, context.configuration.pruning.hyperparameters, 1, 0)
    assert training.loss == CrossEntropy(smoothing=0.1, share=0.5, temperature=3.0)
    assert stages.beginning.dense_training(context).loss == CROSS_ENTROPY
    plain = replace(context, configuration=config.validate(TINY))
    assert sparse_training(plain, context.configuration.pruning.hyperparameters, 1, 0).loss == CrossEntropy(
        temperature=2.0
    )


def test_sparse_training_without_a_teacher_is_refused(context: Context) -> None:
    own = replace(context, configuration=distilled())
    with pytest.raises(ConfigurationError, match=r"training\.distillation\.share=0\.5: the images have no logits"):
        sparse_training(own, own.configuration.pruning.hyperparameters, 1, 0)


@pytest.mark.parametrize("execution", ["dense", "sparse"])
def test_every_stage_learns_from_the_teacher(
    execution: Execution, taught: Dataset, dense: Result, pruned: Result
) -> None:
    """None ends with the weights that it ends with without a teacher."""
    ends: list[set[str]] = []
    for configuration in (distilled(execution), config.validate({**TINY, "run": {"execution": execution}})):
        context, chosen = seen(configuration, taught), configuration.pruning.hyperparameters
        recipe = Recipe(pruned.network.assignment, chosen, learn_scales=False)
        found = stages.search(pruned.network, context, chosen, joint(configuration))
        scored = tuple(evaluation.curve for evaluation in found.evaluations if evaluation.phase == "search")
        last = Context(configuration, stages.folds(configuration, taught).final(0))
        made = (
            stages.prune(dense.network, context),
            stages.train_finalist(pruned.network, context, recipe, 0),
            stages.finish(pruned.network, last, recipe, 0),
            found,
        )
        ends.append({result.network.fingerprint for result in made} | {str(scored)})
    assert not ends[0] & ends[1]


def test_a_distilled_training_goes_on_as_one_never_interrupted_alone_and_side_by_side(
    taught: Dataset, pruned: Result
) -> None:
    context = seen(distilled(crop=1, flip=True), taught)
    training = sparse_training(context, context.configuration.pruning.hyperparameters, 4, 0, learn_scales=True)
    networks = [pruned.network.assign([operator] * 2) for operator in ("relu", "srs")]
    whole, first, second = Trainer(networks, training).run(), Trainer(networks, training), Trainer(networks, training)
    first.run_epoch()
    second.load_state_dict(saved_and_loaded(first.state_dict()))
    second.run()
    for number, network in enumerate(networks):
        alone = Trainer([network], training).run()
        assert alone.current().fingerprint == whole.current(number).fingerprint
        assert second.current(number).fingerprint == whole.current(number).fingerprint


def test_dense_and_sparse_execution_learn_the_same(taught: Dataset, pruned: Result) -> None:
    ends = []
    for execution in ("dense", "sparse"):
        context = seen(distilled(execution), taught)  # type: ignore[arg-type]
        training = sparse_training(context, context.configuration.pruning.hyperparameters, 2, 0)
        ends.append(Trainer([pruned.network.assign(["tanh", "srs"])], training).run().current().state)
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-3, atol=1e-4)
