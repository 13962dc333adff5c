"""What a run is: validated sections, read from YAML and dotted overrides.

Every fraction is in [0, 1]. An unknown key, a wrong type or a value out of range raises
:class:`ConfigurationError` with one line that names the key, the value and what is allowed.
"""

from safs_ray.config.configuration import Configuration
from safs_ray.config.hyperparameters import (
    Hyperparameters,
    OptimizerName,
    Ranges,
    ScheduleName,
    SgdRanges,
    SpaceSection,
)
from safs_ray.config.pruning import PruningSection
from safs_ray.config.reading import beside_budget, dump, leaves, load, overridden, parse, quickstart, read, validate
from safs_ray.config.recipes import AUTO, RECIPES, PruningRecipe
from safs_ray.config.refusals import SECRET, ConfigurationError, counted, refusal, shortened
from safs_ray.config.run import TYPICAL, Cost, Costs, Execution, RunSection
from safs_ray.config.search import (
    AnnealingSection,
    FinetuneSection,
    GeneticSection,
    LahcSection,
    Move,
    SearchSection,
    TpeSection,
)
from safs_ray.config.section import Section, at_home
from safs_ray.config.start import DataSection, DenseSection, ModelSection
from safs_ray.config.task import TaskSection
from safs_ray.config.training import DistillationSection, TrainingSection
from safs_ray.config.tune import FinalSection, ResourcesSection, TuneSection

__all__ = [
    "AUTO",
    "CONFIGURATION",
    "PAGE",
    "RECIPES",
    "RESULTS",
    "SECRET",
    "TYPICAL",
    "AnnealingSection",
    "Configuration",
    "ConfigurationError",
    "Cost",
    "Costs",
    "DataSection",
    "DenseSection",
    "DistillationSection",
    "Execution",
    "FinalSection",
    "FinetuneSection",
    "GeneticSection",
    "Hyperparameters",
    "LahcSection",
    "ModelSection",
    "Move",
    "OptimizerName",
    "PruningRecipe",
    "PruningSection",
    "Ranges",
    "ResourcesSection",
    "RunSection",
    "ScheduleName",
    "SearchSection",
    "Section",
    "SgdRanges",
    "SpaceSection",
    "TaskSection",
    "TpeSection",
    "TrainingSection",
    "TuneSection",
    "at_home",
    "beside_budget",
    "counted",
    "dump",
    "leaves",
    "load",
    "overridden",
    "parse",
    "quickstart",
    "read",
    "refusal",
    "shortened",
    "validate",
]

CONFIGURATION, RESULTS, PAGE = "config.yaml", "results.json", "report.html"
"""The files of a run folder: its configuration, what it has found, and its page."""
