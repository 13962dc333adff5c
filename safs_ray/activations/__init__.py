"""Sites: the places where a network applies an activation, and what is put there."""

from safs_ray.activations.scaled import ChannelGroups, ScaledActivation
from safs_ray.activations.sited import SitedNetwork
from safs_ray.activations.sites import find_sites, input_shapes

__all__ = ["ChannelGroups", "ScaledActivation", "SitedNetwork", "find_sites", "input_shapes"]
