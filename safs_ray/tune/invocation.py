"""What the command was asked for: from its words to the configuration of a run."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from safs_ray import config
from safs_ray.config import CONFIGURATION, RESULTS, Configuration, leaves, refusal
from safs_ray.keys import keys, written
from safs_ray.storage import Folder, blaming, shown
from safs_ray.tune.changes import changed, read_begun


@dataclass(frozen=True)
class Invocation:
    """What the command is to do.

    Attributes:
        arguments: as they were typed.
        folder: of the run.
        dry_run: whether everything is checked, and nothing begun.
        beside_budget: the keys that a budget leaves as they are.
        began: when the command began, by :func:`time.monotonic`.
    """

    arguments: Sequence[str]
    configuration: Configuration
    folder: Folder
    dry_run: bool
    beside_budget: frozenset[str]
    began: float


def understood(arguments: Sequence[str]) -> Invocation | None:
    """What arguments ask for; None where they only ask to print it, which is done.

    Raises:
        ConfigurationError: they hold a mistake.
        SystemExit: they ask for help, or are no arguments of this command.
    """
    began = time.monotonic()
    parsed = parser().parse_intermixed_args(arguments)
    configuration = resumed(parsed.resume, parsed.words) if parsed.resume else new(parsed.words)
    if parsed.print_config:
        show_values(configuration, parsed.words, Console(highlight=False, markup=False))
        return None
    with blaming("run.storage", configuration.run.storage):
        folder = Folder.at(configuration.location)
    beside = frozenset[str]() if parsed.resume else beside_budget(parsed.words)
    return Invocation(arguments, configuration, folder, parsed.dry_run, beside, began)


def parser() -> argparse.ArgumentParser:
    """The arguments that the command takes."""
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
        help="a configuration (default: quickstart.yaml), and values that replace those in it",
    )
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--resume", metavar="RUN", help="resume the run in this folder; key.path=value changes what may be changed"
    )
    either.add_argument(
        "--dry-run", action="store_true", help="check everything; say what the run would do, and how long it would take"
    )
    either.add_argument("--print-config", action="store_true", help="print every value and where it comes from")
    return parser


def _key_table() -> str:
    """Every key with its type, its default and a line of meaning."""
    lines = ["example: python -m safs_ray.tune tune_configs/lenet5_mnist.yaml run.seed=1 search.steps=10", "", "keys:"]
    width = shutil.get_terminal_size().columns - 2
    for key in keys():
        lines.append(f"  {key.path}  ({key.kind}; default: {key.default})")
        lines += textwrap.wrap(key.meaning, width, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)


def new(words: Sequence[str]) -> Configuration:
    """The configuration of a new run, whose folder must be free."""
    configuration = config.load(*_split(words))
    with blaming("run.storage", configuration.run.storage):
        folder = Folder.at(configuration.location)
        begun, finished = folder.exists(CONFIGURATION), folder.exists(RESULTS)
    if begun:
        how = f"{program('python')} -m safs_ray.report {quoted(folder)}" if finished else resume_command(folder)
        state = "a finished" if finished else "an unfinished"
        raise refusal("run.name", configuration.run.name, f"{folder} holds {state} run ({how}); choose another name")
    return configuration


def beside_budget(words: Sequence[str]) -> frozenset[str]:
    """The keys that the budget of a new run leaves as they are."""
    path, overrides = _split(words)
    return config.beside_budget(config.read(path), overrides)


def _split(words: Sequence[str]) -> tuple[Path, Sequence[str]]:
    """The file of a configuration, and what replaces its values."""
    named = bool(words) and "=" not in words[0]
    return (Path(words[0]), words[1:]) if named else (config.quickstart(), words)


def resumed(run: str, words: Sequence[str]) -> Configuration:
    """The configuration of a run that was begun, with changes that it may take; nothing is written yet."""
    with blaming("--resume", run):
        folder = Folder.at(run)
        if not folder.exists(CONFIGURATION):
            raise refusal("--resume", run, f"holds no {CONFIGURATION}; allowed: the folder of a run that was begun")
        return changed(read_begun(folder), words)


def show_values(configuration: Configuration, words: Sequence[str], console: Console) -> None:
    """Every key and its value, and where that is from."""
    path, overrides = _split(words)
    values = config.read(path)
    in_file, given = leaves(values), {word.partition("=")[0] for word in overrides}
    replaced = in_file.keys() - leaves(config.overridden(values, overrides)).keys()
    for key, value in leaves(configuration.model_dump(mode="json")).items():
        line = key in replaced or any(key == word or key.startswith(f"{word}.") for word in given)
        origin = "command line" if line else str(path) if key in in_file else "default"
        console.print(f"{f'{key}={written(value)}':<60}  # {origin}", soft_wrap=True)


def typed(words: Sequence[str]) -> str:
    """The command with these words, as a person can type it in a shell here."""
    return shlex.join([*shlex.split(program("python")), "-m", "safs_ray.tune", *words])


def resume_command(folder: Folder) -> str:
    """How to go on with a run."""
    return f"{program('python')} -m safs_ray.tune --resume {quoted(folder)}"


def program(name: str) -> str:
    """What to type here for a program of this Python's environment: its path where its name finds another, or none."""
    own = Path(sys.executable).absolute().with_name(name)
    path = shutil.which(name)
    if not own.exists() or (path and Path(path).absolute() == own):
        return name
    return shlex.quote(str(own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own))


def quoted(folder: Folder) -> str:
    """The folder as a person can type it in a shell here: a URI may hold & and ?."""
    return shlex.quote(shown(folder))
