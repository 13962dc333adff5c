"""The command ``python -m safs_ray.tune``: from its words to a run and its exit code."""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import platform
import shlex
import shutil
import signal
import sys
import textwrap
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayTaskError
from rich.console import Console

import safs_ray
from safs_ray import config, machine, stages
from safs_ray.config import CONFIGURATION, Configuration, ConfigurationError, PruningSection, RunSection, refusal
from safs_ray.data import Dataset, Splits
from safs_ray.keys import keys, written
from safs_ray.network import Network
from safs_ray.pruning.masks import count_kept
from safs_ray.pruning.structure import select
from safs_ray.report import page, tensorboard
from safs_ray.report.record import Record
from safs_ray.report.results import RESULTS
from safs_ray.report.table import show
from safs_ray.report.wording import shown
from safs_ray.storage import DamagedError, Folder, blaming
from safs_ray.tune.board import NAMESPACE
from safs_ray.tune.changes import changed, differences, leaves, reopen
from safs_ray.tune.live import LiveTable
from safs_ray.tune.modules import modules
from safs_ray.tune.progress import EventFile, duration, lines, show_to
from safs_ray.tune.search import FailedSearchError
from safs_ray.tune.standing import standing
from safs_ray.tune.sweep import sweep
from safs_ray.tune.warm_start import take_over

TOKEN = Path("~/.ray/auth_token")
"""What lets a process into a Ray cluster; Ray writes it for all to read."""

FINISHED, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run or resume a sweep; returns the exit code."""
    parsed = _parser().parse_intermixed_args(arguments)
    if str(Path.cwd()) not in sys.path:  # where a user's own modules lie, and where Ray's workers look for them
        sys.path.append(str(Path.cwd()))
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console(highlight=False, markup=False)
    try:
        configuration = _resumed(parsed.resume, parsed.words) if parsed.resume else _new(parsed.words)
        with blaming("run.storage", configuration.run.storage):
            folder = Folder.at(configuration.location)
        if parsed.print_config:
            return _print(configuration, parsed.words, console)
        if parsed.dry_run:
            return _try_out(configuration, folder, console)
    except ConfigurationError as error:
        return _end(BAD_INPUT, f"error: {error}")
    try:
        results = _run(configuration, folder, console)
    except ConfigurationError as error:
        return _end(BAD_INPUT, f"error: {error}")
    except KeyboardInterrupt:
        return _end(INTERRUPTED, f"interrupted; {_left(configuration, folder)}")
    except FailedSearchError as error:
        return _end(FAILED, f"failed: {error}; {_left(configuration, folder)}")
    except Exception as error:
        cause = error.cause if isinstance(error, RayTaskError) else error
        if not isinstance(cause, OSError | MemoryError):  # of a disk, a network or a memory the message says all
            traceback.print_exc()
        message = f"{type(cause).__name__}: {cause}".splitlines()[0]
        return _end(FAILED, f"failed: {message}; {_left(configuration, folder)}")
    return _conclude(folder, results, console)


def _run(configuration: Configuration, folder: Folder, console: Console) -> dict[str, Any]:
    """Do what is left of a run; returns its results."""
    with blaming("run.storage", configuration.run.storage), suppress(DamagedError, FileNotFoundError):
        finished: dict[str, Any] = folder.read_json(RESULTS)
        return finished
    dataset, splits, network, given = _checked(configuration, folder)
    configuration = _with_costs(configuration)
    with blaming("run.storage", configuration.run.storage):
        take_over(configuration, folder)
        if not folder.exists(CONFIGURATION):
            folder.write(CONFIGURATION, (_versions() + config.dump(configuration)).encode())
        if given:
            given.save(_given_stage(configuration, folder))  # as if the stage had been done
    with _alone(folder), _telling(configuration.run, console):
        if configuration.run.verbose:
            _announce(configuration, splits, network, folder, console)
        try:
            _connect(configuration)
            return sweep(configuration, dataset, folder)
        except RayTaskError as error:
            if isinstance(error.cause, ConfigurationError):
                raise ConfigurationError(str(error.cause)) from None
            raise
        finally:
            ray.shutdown()


def _with_costs(configuration: Configuration) -> Configuration:
    """The configuration with this machine's costs, unless it has some: the run goes by them wherever it goes on."""
    section = configuration.run
    if section.costs or section.execution != "auto" or section.device == "cuda":
        return configuration
    from safs_ray.sparse.costs import of_this_machine  # here: numba takes half a second to import

    return configuration.model_copy(update={"run": section.model_copy(update={"costs": of_this_machine()})})


@contextmanager
def _telling(section: RunSection, console: Console) -> Iterator[None]:
    """Tell what happens: in a terminal as a table, elsewhere as lines, and to ``run.events``.

    Raises:
        ConfigurationError: ``run.events`` cannot be written.
    """
    with ExitStack() as told:
        file = None
        if section.events:
            with blaming("run.events", section.events):
                file = told.enter_context(closing(EventFile(section.events)))
        live = section.verbose and sys.stdout.isatty() and not console.is_dumb_terminal
        person = told.enter_context(LiveTable(console)) if live else lines(section.verbose)
        show_to(*([person, file] if file else [person]))
        yield


def _checked(configuration: Configuration, folder: Folder) -> tuple[Dataset, Splits, Network, stages.Result | None]:
    """The data, those of the search, the network that the run begins from, and it as a stage where it was given.

    Raises:
        ConfigurationError: some of it cannot be read, or does not fit together.
    """
    dataset = stages.load(configuration)
    splits = stages.folds(configuration, dataset).search()
    network = stages.check(configuration, dataset, splits)
    given = _given(configuration, network, splits, folder)
    return dataset, splits, given.network if given else network, given


def _try_out(configuration: Configuration, folder: Folder, console: Console) -> int:
    """Check everything, time an epoch and say what the run would cost."""
    _, splits, network, _ = _checked(configuration, folder)
    _announce(configuration, splits, network, folder, console)
    console.print("  nothing was begun: a dry run")
    return FINISHED


def _print(configuration: Configuration, words: Sequence[str], console: Console) -> int:
    """Every key and its value, and where that is from."""
    path, overrides = _split(words)
    given = {word.partition("=")[0] for word in overrides}
    in_file = leaves(config.parse(path.read_text(), str(path)))
    for key, value in leaves(configuration.model_dump(mode="json")).items():
        line = any(key == word or key.startswith(f"{word}.") for word in given)
        origin = "command line" if line else str(path) if key in in_file else "default"
        console.print(f"{f'{key}={written(value)}':<60}  # {origin}", soft_wrap=True)
    return FINISHED


@contextmanager
def _alone(folder: Folder) -> Iterator[None]:
    """Keep other processes out of a run on a local disk or NFS; a bucket knows no locks.

    Raises:
        ConfigurationError: another process is at it.
    """
    if folder.root:
        yield
        return
    directory = os.open(folder.path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise refusal("--resume", str(folder), "another process is at this run") from None
        yield
    finally:
        os.close(directory)


def _left(configuration: Configuration, folder: Folder) -> str:
    """What an end that is none leaves, and how to go on."""
    if not folder.exists(CONFIGURATION):
        return "nothing was begun"
    return f"{standing(configuration, folder)}. Go on with: {_resume_command(folder)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m safs_ray.tune",
        description="Search the activation functions and hyperparameters of a sparse network.",
        epilog=_key_table(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="CONFIG.yaml key.path=value",
        help="a configuration (default: quickstart.yaml) and values that replace its own",
    )
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--resume", metavar="RUN", help="go on with the run in this folder, with changes if there are any"
    )
    either.add_argument("--dry-run", action="store_true", help="check everything, and say what the run would cost")
    either.add_argument("--print-config", action="store_true", help="print every value and where it is from")
    return parser


def _key_table() -> str:
    """Every key with its type, its default and a line of meaning."""
    lines = ["example: python -m safs_ray.tune tune_configs/lenet5_mnist.yaml run.seed=1 search.steps=10", "", "keys:"]
    width = shutil.get_terminal_size().columns - 2
    for key in keys():
        lines.append(f"  {key.path}  ({key.kind}; default: {key.default})")
        lines += textwrap.wrap(key.meaning, width, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)


def _new(words: Sequence[str]) -> Configuration:
    """The configuration of a new run, whose folder must be free."""
    configuration = config.load(*_split(words))
    with blaming("run.storage", configuration.run.storage):
        folder = Folder.at(configuration.location)
        begun, finished = folder.exists(CONFIGURATION), folder.exists(RESULTS)
    if begun:
        how = f"python -m safs_ray.report {_quoted(folder)}" if finished else _resume_command(folder)
        state = "finished" if finished else "unfinished"
        raise refusal("run.name", configuration.run.name, f"{folder} holds a {state} run ({how}); choose another name")
    return configuration


def _split(words: Sequence[str]) -> tuple[Path, Sequence[str]]:
    """The file of a configuration, and what replaces its values."""
    named = bool(words) and "=" not in words[0]
    return (Path(words[0]), words[1:]) if named else (_quickstart(), words)


def _given(configuration: Configuration, network: Network, splits: Splits, folder: Folder) -> stages.Result | None:
    """The network of model.weights; a run that was begun has it in its folder and needs the file no more."""
    if configuration.model.weights:
        with suppress(DamagedError):
            if begun := stages.Result.load(_given_stage(configuration, folder)):
                return begun
    return stages.given(configuration, network.specification, splits)


def _given_stage(configuration: Configuration, folder: Folder) -> Folder:
    return folder / "networks" / ("pruned" if configuration.model.pruned else "dense")


def _resumed(run: str, words: Sequence[str]) -> Configuration:
    """The configuration of a run that was begun, wherever its folder lies now, with changes that it may take."""
    with blaming("--resume", run):
        folder = Folder.at(run)
        if not folder.exists(CONFIGURATION):
            raise refusal("--resume", run, f"holds no {CONFIGURATION}; allowed: the folder of a run that was begun")
        text = folder.read(CONFIGURATION).decode(errors="replace")
    values = config.parse(text, f"{folder}/{CONFIGURATION}")
    begun = _whole(values, f"{folder}/{CONFIGURATION}")
    begun["run"] |= {"storage": str(folder.parent) or "/", "name": folder.name}
    configuration = changed(begun, words)
    changes = differences(config.validate(begun), configuration)
    if changes:
        with blaming("--resume", run):
            reopen(folder, list(changes))
            notes = "".join(f"# resumed with {key}: {new}, was {old}\n" for key, (old, new) in changes.items())
            header = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
            folder.write(CONFIGURATION, (header + notes + config.dump(configuration)).encode())
    return configuration


def _whole(values: dict[str, Any], file: str) -> dict[str, Any]:
    """Values of a run's configuration, in which every key is written out: without one they would be other settings."""
    for key in leaves(config.validate(values).model_dump(mode="json")):
        place: Any = values
        for part in key.split("."):
            if not isinstance(place, dict) or part not in place:
                raise refusal("--resume", file, f"lacks {key}: it was cut short, or written by another version")
            place = place[part]
    return values


def _quickstart() -> Path:
    """quickstart.yaml in an installed package, or beside the package in a checkout."""
    package = Path(safs_ray.__file__).parent
    installed = package / "tune_configs" / "quickstart.yaml"
    return installed if installed.exists() else package.parent / "tune_configs" / "quickstart.yaml"


def _versions() -> str:
    packages = ("safs_ray", "ray", "torch", "torchvision", "hyperopt", "numpy", "pyarrow")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return f"# Python {platform.python_version()}, {versions}\n"


def _announce(configuration: Configuration, splits: Splits, network: Network, folder: Folder, console: Console) -> None:
    """Say what will run and about how long."""
    plan = stages.plan(configuration)
    workers = _workers(configuration)
    dense, others = plan["dense training"], sum(plan.values()) - plan["dense training"]
    seconds = stages.seconds_per_epoch(configuration, network, splits) * dense if dense else 0.0
    seconds += stages.seconds_per_epoch(configuration, _sparse(configuration, network), splits) * others
    machine.give_back_memory()  # this process trains no more, and the others want it
    data = splits.train.images.shape
    fine_tuning = " and a fine-tuning" if plan["fine-tuning"] else ""
    condition = " if ASHA stops no trial" if configuration.tune.scheduler == "asha" else ""
    console.print(
        f"{configuration.run.name}: {configuration.model.name} on {configuration.data.source}, "
        f"{len(splits.train):,} training, {len(splits.validation):,} validation and {len(splits.test):,} test "
        f"images of {data[1]}x{data[2]}x{data[3]}, {network.specification.classes} classes\n"
        f"{_origin(configuration, network)}"
        f"  {len(network.sites)} sites{_division(configuration)}, {len(configuration.search.operators)} operators, "
        f"{configuration.tune.trials} trials of {configuration.search.steps} evaluations{fine_tuning}, "
        f"{configuration.final.folds} folds\n"
        f"  at most {sum(plan.values()):,} epochs ({', '.join(f'{name} {n:,}' for name, n in plan.items())})\n"
        f"  about {duration(seconds / workers)} on {workers} worker{'s' * (workers > 1)} of this machine{condition}\n"
        f"  run folder {folder}\n"
        f"  watch      tensorboard --logdir {_quoted(folder)}\n"
        f"  go on      {_resume_command(folder)}   (after an interruption)",
        soft_wrap=True,
    )


def _sparse(configuration: Configuration, network: Network) -> Network:
    """A network as sparse as this one will be, for the time that its epochs take."""
    if configuration.model.pruned or configuration.search.when == "during":
        return network
    magnitudes = {name: weight.abs() for name, weight in network.prunable().items()}
    section = configuration.pruning
    return network.masked(select(magnitudes, section.sparsity, section, {}))


def _division(configuration: Configuration) -> str:
    search = configuration.search
    return {"layer": "", "network": " of one operator", "group": f" of {search.groups} groups"}[search.granularity]


def _origin(configuration: Configuration, network: Network) -> str:
    """Where the weights come from, and how many stay."""
    lines = f"  starts from {configuration.model.weights}\n" if configuration.model.weights else ""
    if not configuration.model.pruned:
        return f"{lines}  {_pruning(configuration.pruning, network)}\n"
    kept, count = network.nonzero_weights, network.prunable_count
    return f"{lines}  sparsity {100 * network.sparsity:.6g} % as it comes: {kept:,} of {count:,} weights stay\n"


def _pruning(section: PruningSection, network: Network) -> str:
    """How many weights will be left, and by which pruner."""
    magnitudes = {name: weight.abs() for name, weight in network.prunable().items()}
    left = count_kept(select(magnitudes, section.sparsity, section, {}))  # as many as by any score
    about = "about " if section.structure == "filters" else ""
    return (
        f"sparsity {100 * section.sparsity:g} %{' of the filters' if about else ''} by {section.score}, "
        f"allocation {section.allocation}, structure {section.structure}, schedule {section.schedule}: "
        f"{about}{left:,} of {network.prunable_count:,} weights stay"
    )


def _workers(configuration: Configuration) -> int:
    return max(1, machine.cores() // configuration.tune.resources.cpu)


def _connect(configuration: Configuration) -> None:
    """Connect to Ray, starting it for this run alone unless the configuration names a cluster."""
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # it would outlast the sweep, and swallow a later Ctrl-C
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "30")  # snapshots only bring TensorBoard its events
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "namespace": NAMESPACE}
    try:
        if configuration.run.address == "local":
            ray.init(address="local", num_cpus=machine.cores(), include_dashboard=False, **quiet)
        else:
            # A submitted job has a runtime environment of its own: only the modules are taken from this one.
            os.environ.setdefault("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")
            with blaming("run.address", configuration.run.address):
                ray.init(address=configuration.run.address, runtime_env={"py_modules": modules()}, **quiet)
    except SystemExit:  # what Ray's own handler of SIGTERM, which it sets on the way, makes of it
        raise KeyboardInterrupt from None
    signal.signal(signal.SIGTERM, _interrupt)
    with suppress(FileNotFoundError):
        TOKEN.expanduser().chmod(0o600)
    for name in ("ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _interrupt(*_: Any) -> None:
    """On SIGTERM do what Ctrl-C does."""
    raise KeyboardInterrupt


def _conclude(folder: Folder, results: dict[str, Any], console: Console) -> int:
    """Show the table of a finished run, and write its page if there is none yet."""
    console.print()
    show(results, console)
    console.print(
        f"\n  report         {_page(folder)}\n"
        f"  run folder     {folder}\n"
        f"  best network   {folder / 'networks' / 'best'}\n"
        f"  table again    python -m safs_ray.report {_quoted(folder)}\n"
        f"  take it away   python -m safs_ray.export {_quoted(folder)} --format onnx\n"
        f"  TensorBoard    tensorboard --logdir {_quoted(folder)}",
        soft_wrap=True,
    )
    return FINISHED


def _page(folder: Folder) -> str:
    """Where the run's page is; of one that cannot be made, why: the run is finished all the same."""
    if not folder.exists(page.PAGE):
        try:
            record = Record.read(folder)
            drawn = page.figures(record)
            tensorboard.write(record, drawn)
            folder.write(page.PAGE, page.render(record, drawn, datetime.now()).encode())
        except (Exception, KeyboardInterrupt) as error:
            return f"not written ({type(error).__name__}: {error})".splitlines()[0]
    return f"{shown(folder)}/{page.PAGE}"


def _end(code: int, message: str) -> int:
    print(message, file=sys.stderr)
    return code


def _quoted(folder: Folder) -> str:
    """The folder as a person can type it in a shell here: a URI may hold & and ?."""
    return shlex.quote(shown(folder))


def _resume_command(folder: Folder) -> str:
    return f"python -m safs_ray.tune --resume {_quoted(folder)}"
