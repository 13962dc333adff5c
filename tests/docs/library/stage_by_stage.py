import torch

from safs_ray import config, stages
from safs_ray.training import Context

run = config.validate(
    {
        "data": {"source": "digits", "size": 8, "validation": 0.1},
        "model": {"name": "mlp"},
        "dense": {"epochs": 4, "hyperparameters": {"learning_rate": 5e-3, "batch_size": 64}},
        "pruning": {"sparsity": 0.95, "epochs": 4, "hyperparameters": {"learning_rate": 5e-3, "batch_size": 64}},
        "search": {"steps": 4, "epochs": 1},
        "finetune": {"epochs": 4, "epochs_per_step": 2},
        "final": {"epochs": 4},
        "run": {"execution": "dense"},  # so short trainings are not worth compiling for
    }
)
data = stages.load(run)
folds = stages.folds(run, data)
context = Context(run, folds.search(), torch.device("cpu"))  # the images that the search may see

dense = stages.train_dense(stages.specify(run, data, context.splits), context)
pruned = stages.prune(dense.network, context)
search = stages.search(pruned.network, context, run.pruning.hyperparameters)
print(search.assignment, search.validation_accuracy)

final = Context(run, folds.final(0), torch.device("cpu"))  # the test images are in here alone
last = stages.finish(pruned.network, final, search.recipe, fold=0)
print(last.network.nonzero_weights, last.test_accuracy)
