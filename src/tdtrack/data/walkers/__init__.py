"""A synthetic world of walking people: Re-ID crops, a detection set without identities, and MOT sequences, from a seed."""

from tdtrack.data.walkers.config import WalkersConfig
from tdtrack.data.walkers.export import World, write_world
from tdtrack.data.walkers.render import render_sequence
from tdtrack.data.walkers.withheld import withheld_identities

__all__ = ["WalkersConfig", "World", "render_sequence", "withheld_identities", "write_world"]
