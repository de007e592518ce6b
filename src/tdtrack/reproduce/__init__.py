"""``tdtrack reproduce``: the paper's tables and figures, run and printed beside the paper's numbers.

``tables`` declares them; ``material`` gets data and teachers, from the walkers world or from a folder of real data;
``workshop`` makes each model once and measures it, ``side_by_side`` several at a time; ``run`` does one table; ``pages`` prints
and saves it.
"""

from tdtrack.reproduce.run import reproduce
from tdtrack.reproduce.scale import Scale, paper_scale, walkers_scale
from tdtrack.reproduce.tables import TABLES

__all__ = ["TABLES", "Scale", "paper_scale", "reproduce", "walkers_scale"]
