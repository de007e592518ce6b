"""FairMOT's published association, replayed on saved detections."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tdtrack.association import Tracker
from tdtrack.config import AssociationConfig
from tdtrack.data.replay import read_detections_npz

SEQUENCES = ("KITTI-17", "MOT17-09", "PETS09-S2L1", "TUD-Stadtmitte")


def test_every_golden_sequence_is_listed(shared_data: Path) -> None:
    found = sorted(path.stem.removeprefix("fairmot-") for path in (shared_data / "golden").glob("fairmot-*.txt"))
    assert found == sorted(SEQUENCES)


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_boxes_and_ids_equal_fairmot(shared_data: Path, sequence: str) -> None:
    golden = np.loadtxt(shared_data / "golden" / f"fairmot-{sequence}.txt", delimiter=",")
    config = AssociationConfig(method="fairmot", min_score=0.4, max_appearance_cost=0.4, max_lost_seconds=1.0)
    tracker = Tracker(config, frame_rate=30.0)
    frames = read_detections_npz(shared_data / "replay" / sequence / "detections.npz")
    results = [tracker.update(detections) for detections in frames]

    pairs = set()
    for tracks in results:
        rows = golden[golden[:, 0] == tracks.frame_index + 1]
        tlwh = np.concatenate([tracks.xyxy[:, :2], tracks.xyxy[:, 2:] - tracks.xyxy[:, :2]], axis=1)
        assert len(tracks) == len(rows), f"frame {tracks.frame_index}"
        if len(rows):
            distance = np.abs(tlwh[:, None, :] - rows[None, :, 2:6]).max(axis=2)
            nearest = distance.argmin(axis=1)
            assert sorted(nearest) == list(range(len(rows))), f"frame {tracks.frame_index}"
            assert distance.min(axis=1).max() < 0.01, f"frame {tracks.frame_index}"
            pairs |= set(zip(tracks.track_id.tolist(), rows[nearest, 1].astype(int).tolist()))
    assert sum(map(len, results)) == len(golden)
    ours, theirs = zip(*pairs)
    assert len(set(ours)) == len(set(theirs)) == len(pairs)  # one-to-one
