"""Any function that turns crops into vectors can be the teacher; here the mean colour of head, body and legs.

python examples/own_teacher.py annotations.json photos/ colours.parquet
"""

import sys
from pathlib import Path

import numpy as np

import tdtrack
from tdtrack.teacher.annotate import annotate


def colours(crops: list[np.ndarray]) -> np.ndarray:
    """Return ``(N, 9)``: mean RGB of the upper, middle and lower third of each crop."""
    return np.stack([np.concatenate([part.reshape(-1, 3).mean(axis=0) for part in np.array_split(crop, 3)]) for crop in crops])


data, images, store = sys.argv[1:4]
annotate(tdtrack.load_dataset(data, images), tdtrack.load_teacher(colours), Path(store))
