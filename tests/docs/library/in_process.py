from safs_ray import config, experiment, stages
from safs_ray.experiment.local import InProcess

run = config.load(
    config.quickstart(),
    [
        "data.size=8", "model.name=mlp", "dense.epochs=4", "pruning.sparsity=0.95", "pruning.epochs=4",
        "search.steps=3", "search.epochs=1", "finetune.epochs=4", "finetune.epochs_per_step=2", "tune.trials=2",
        "tune.grace_period=1", "final.epochs=4", "final.folds=1", "run.execution=dense",
    ],
)  # fmt: skip
data = stages.load(run)
network = stages.check(run, data, stages.folds(run, data).search())  # refuses here what does not fit
executor = InProcess(run, data)
results = experiment.run(run, network.specification, executor)

for row in results["rows"]:
    print(row["name"], row["test_accuracy"]["mean"])
best = executor.result(experiment.BEST).network
