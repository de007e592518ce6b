"""Give saved detections with embeddings to other people's trackers; each needs its package in your environment.

python examples/other_trackers.py saved.npz roboflow      # pip install trackers
python examples/other_trackers.py saved.npz boxmot        # pip install boxmot torch torchvision (AGPL)
"""

import sys

from tdtrack.data.saved import read_detections
from tdtrack.output.neighbours import to_supervision

path, whose = sys.argv[1:3]
frames = read_detections(path)
if whose == "roboflow":
    from trackers import ByteTrackTracker

    tracker = ByteTrackTracker()
    for index, found in enumerate(frames):
        tracks = tracker.update(to_supervision(found))
        print(index, tracks.tracker_id.tolist())
else:
    import numpy as np
    import torch
    from boxmot import BotSort
    from boxmot.structures.detections import Detections
    from boxmot.structures.geometry import Boxes

    tracker = BotSort(use_cmc=False)
    grey = np.full((1080, 1920, 3), 114, np.uint8)  # BoxMOT wants a picture even where nothing looks at it
    for index, found in enumerate(frames):
        theirs = Detections(
            Boxes(torch.from_numpy(found.xyxy)),
            torch.from_numpy(found.score),
            torch.from_numpy(found.class_id),
            sample_id=str(index),
            embeddings=None if found.embedding is None else torch.from_numpy(found.embedding),
        )
        print(index, tracker.update(theirs, grey).track_ids.tolist())
