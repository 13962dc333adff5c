from safs_ray import config, stages
from safs_ray.training import Context

SETTINGS = {
    "data": {"size": 8, "limit": 60, "validation": 0.1},
    "model": {"name": "mlp"},
    "dense": {"epochs": 1},
    "pruning": {"schedule": "two_cuts:two_cuts", "sparsity": 0.9, "epochs": 2},
}


def test_two_cuts_leaves_a_tenth_of_the_weights() -> None:
    run = config.validate(SETTINGS)
    data = stages.load(run)
    context = Context(run, stages.folds(run, data).search())
    dense = stages.train_dense(stages.specify(run, data, context.splits), context)
    assert stages.prune(dense.network, context).network.nonzero_weights == dense.network.prunable_count // 10
