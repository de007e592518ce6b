"""Saved detections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tdtrack.data.replay import read_detections_npz, write_detections_npz
from tdtrack.errors import DataError, ShapeError
from tdtrack.types import Detections


def archive(tmp_path: Path, **changes: Any) -> Path:
    arrays = {
        "frame": np.array([4, 2, 4], np.int32),
        "xyxy": np.array([[0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 9, 9]], np.float32),
        "score": np.array([0.5, 0.25, 1.0], np.float32),
        "embedding": np.array([[3, 4], [0, 0], [0, 0.5]], np.float16),
        **changes,
    }
    path = tmp_path / "d.npz"
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


def test_rows_go_to_their_frames_in_order(tmp_path: Path) -> None:
    frames = read_detections_npz(archive(tmp_path))
    assert [len(frame) for frame in frames] == [0, 1, 0, 2]
    np.testing.assert_array_equal(frames[3].xyxy, [[0, 0, 2, 2], [5, 5, 9, 9]])
    np.testing.assert_array_equal(frames[3].score, [0.5, 1.0])
    np.testing.assert_array_equal(frames[3].class_id, [0, 0])
    assert frames[3].embedding is not None
    np.testing.assert_allclose(frames[3].embedding, [[0.6, 0.8], [0, 1]], atol=1e-6)
    np.testing.assert_array_equal(frames[1].embedding, [[0, 0]])  # no direction to give
    assert frames[0].embedding is not None
    assert frames[0].embedding.shape == (0, 2)


def test_embeddings_are_optional_and_classes_kept(tmp_path: Path) -> None:
    frames = read_detections_npz(archive(tmp_path, embedding=None, class_id=np.array([2, 1, 0])))
    assert frames[3].embedding is None
    np.testing.assert_array_equal(frames[3].class_id, [2, 0])


def test_no_rows_are_no_frames(tmp_path: Path) -> None:
    empty = {"frame": np.zeros(0), "xyxy": np.zeros((0, 4)), "score": np.zeros(0), "embedding": np.zeros((0, 2))}
    assert read_detections_npz(archive(tmp_path, **empty)) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score": None}, r"array 'score' is missing; found \['embedding', 'frame', 'xyxy'\]"),
        ({"xyxy": np.zeros((3, 5))}, r"array 'xyxy' has shape \(3, 5\), expected \(3, 4\) for 3 frame numbers"),
        ({"score": np.zeros(2)}, r"array 'score' has shape \(2,\), expected \(3,\)"),
        ({"class_id": np.zeros((3, 1))}, r"array 'class_id' has shape \(3, 1\)"),
        ({"embedding": np.zeros(3)}, r"array 'embedding' has shape \(3,\), expected \(3, D\)"),
        ({"frame": np.zeros((3, 1))}, r"array 'frame' has shape \(3, 1\)"),
        ({"frame": np.array([1, 0, 2])}, "array 'frame', row 1 is 0; frames are whole numbers from 1"),
        ({"frame": np.array([1, 1.5, 2])}, "array 'frame', row 1 is 1.5"),
        ({"frame": np.array([1, 2, 10**12])}, "array 'frame', row 2 is 1000000000000"),
        ({"score": np.array([0.5, np.nan, 1])}, "array 'score', row 1 holds a value that is not finite"),
        ({"score": np.array([0.5, 1.5, 1])}, "array 'score', row 1 is 1.5; scores lie between 0 and 1"),
        ({"xyxy": np.array([[0, 0, 2, 2], [3, 1, 1, 3], [5, 5, 9, 9]])}, r"array 'xyxy', row 1 is \[3, 1, 1, 3\]; x2 and y2"),
        ({"class_id": np.array([0, -1, 0])}, "array 'class_id', row 1 is -1"),
        ({"score": np.array(["a", "b", "c"])}, "array 'score' holds <U1, not numbers"),
        ({"score": np.array([{}, {}, {}], object)}, "not a NumPy archive of plain arrays"),
    ],
)
def test_a_bad_array_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=rf"d\.npz: {message}"):
        read_detections_npz(archive(tmp_path, **changes))


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_detections_npz(tmp_path / "nope.npz")
    path = archive(tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="not a NumPy archive"):
        read_detections_npz(path)
    path.write_text("hello")
    with pytest.raises(DataError, match="not a NumPy archive"):
        read_detections_npz(path)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(DataError, match="not a NumPy archive"):
        read_detections_npz(tmp_path / "one.npy")


def test_real_replays_are_read_whole(shared_data: Path) -> None:
    paths = sorted((shared_data / "replay").glob("*/detections.npz"))
    assert len(paths) == 8
    for path in paths:
        with np.load(path, allow_pickle=False) as opened:
            raw = {name: opened[name] for name in ("frame", "xyxy")}
        frames = read_detections_npz(path)
        assert len(frames) == raw["frame"].max()
        for index, frame in enumerate(frames):
            np.testing.assert_array_equal(frame.xyxy, raw["xyxy"][raw["frame"] == index + 1])


def frame(count: int, dim: int | None, seed: int) -> Detections:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 50, (count, 2))
    embedding = None if dim is None else rng.normal(size=(count, dim))
    if embedding is not None:
        embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    xyxy = np.concatenate([corner, corner + rng.uniform(1, 30, (count, 2))], axis=1)
    return Detections(xyxy, rng.uniform(size=count), rng.integers(0, 3, count), embedding)


@pytest.mark.parametrize("dim", [None, 5])
def test_what_is_written_is_read_again(tmp_path: Path, dim: int | None) -> None:
    frames = [frame(count, dim, seed) for seed, count in enumerate([2, 0, 3, 0])]
    write_detections_npz(tmp_path / "d.npz", frames)
    again = read_detections_npz(tmp_path / "d.npz")
    assert len(again) == 3  # the last frame is empty
    for written, found in zip(frames, again):
        np.testing.assert_array_equal(found.xyxy, written.xyxy)
        np.testing.assert_array_equal(found.score, written.score)
        np.testing.assert_array_equal(found.class_id, written.class_id)
        if dim is None:
            assert found.embedding is None
        else:
            np.testing.assert_allclose(found.embedding, written.embedding, atol=1e-3)  # float16


def test_frames_with_embeddings_of_different_widths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="different widths"):
        write_detections_npz(tmp_path / "d.npz", [frame(1, 4, 0), frame(1, None, 1)])
    assert not (tmp_path / "d.npz").exists()
