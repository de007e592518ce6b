"""Who is who in the detection set: what :func:`~tdtrack.data.walkers.write_world` withholds and never writes.

Only the counterpart that is trained with identities (Tab. 4) asks for this.
"""

from __future__ import annotations

import numpy as np

from tdtrack.data.walkers.config import WalkersConfig
from tdtrack.data.walkers.export import annotated_rows, frame_step
from tdtrack.data.walkers.render import make_shot, render_frame
from tdtrack.types import IntArray

__all__ = ["withheld_identities"]


def withheld_identities(config: WalkersConfig) -> tuple[IntArray, IntArray]:
    """Render the training frames anew to learn who is in them.

    Args:
        config: the world.

    Returns:
        ``(N,)`` annotation ids of ``detection/train.json`` in its order, and ``(N,)`` the identity of each.
    """
    identities = [np.zeros(0, np.int64)]
    step = frame_step(config)
    for index in range(config.detection_videos):
        shot = make_shot(config, "train", index, config.detection_frames * step)
        for number in range(config.detection_frames):
            frame = render_frame(shot, number * step)
            identities.append(frame.identity[annotated_rows(frame)])
    identity = np.concatenate(identities)
    return np.arange(1, len(identity) + 1, dtype=np.int64), identity
