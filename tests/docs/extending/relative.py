from torch import Tensor

from safs_ray.pruning.scores import Evidence


def relative_magnitude(evidence: Evidence) -> dict[str, Tensor]:
    """|w| as a fraction of the largest weight of its output neuron or channel."""
    scores = {}
    for name, weight in evidence.weights.items():
        magnitude = weight.detach().abs()
        largest = magnitude.flatten(1).amax(1).reshape(-1, *[1] * (weight.dim() - 1))
        scores[name] = magnitude / largest.clamp_min(1e-12)
    return scores
