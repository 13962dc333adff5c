"""How sparse networks are trained, in every row of the table alike."""

from __future__ import annotations

from pydantic import Field

from safs_ray.config.section import Fraction, Section


class DistillationSection(Section):
    share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the loss that is the cross-entropy against the outputs of the dense network, both "
        "softened by the temperature (Hinton et al. 2015); 0: none",
    )
    temperature: float = Field(2.0, ge=0.01, le=100, description="what the outputs of both networks are divided by")


class TrainingSection(Section):
    label_smoothing: Fraction = Field(
        0.0, description="share of each target that is spread evenly over all classes (Szegedy et al. 2016); 0: none"
    )
    distillation: DistillationSection = Field(
        DistillationSection(), description="the sparse network learns from the dense one, too"
    )
    average: Fraction = Field(
        0.0,
        description="fraction of the epochs, the last ones, after each of which the weights are taken into a mean "
        "(SWA, Izmailov et al. 2018), which is kept where it is more accurate than any single epoch; 0: none. "
        "Evaluations of the search, which are short, have none",
    )

    @property
    def words(self) -> list[str]:
        """What of it is on, for a person.

        Examples:
            >>> TrainingSection(label_smoothing=0.1, average=0.25).words
            ['label smoothing 0.1', 'the mean of the last 25% of the epochs']
        """
        share, temperature = self.distillation.share, self.distillation.temperature
        return [
            *([f"label smoothing {self.label_smoothing:g}"] if self.label_smoothing else []),
            *([f"distillation {share:g} at temperature {temperature:g}"] if share else []),
            *([f"the mean of the last {self.average:.0%} of the epochs"] if self.average else []),
        ]
