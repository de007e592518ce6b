from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import supervision as sv

from tdtrack.errors import OutputError, ShapeError
from tdtrack.output import video
from tdtrack.output.overlay import TrackOverlay, from_supervision, to_supervision, track_color
from tdtrack.output.video import OverlayVideoWriter, VideoWriter
from tdtrack.types import Detections, Tracks

GREY = 96


def tracks_at(*boxes: tuple[int, float, float, float, float], frame_index: int = 0) -> Tracks:
    rows = np.array(boxes, np.float64).reshape(-1, 5)
    count = len(rows)
    return Tracks(frame_index, rows[:, 0], rows[:, 1:], np.full(count, 0.9), np.zeros(count))


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), GREY, np.uint8)


def read_all(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_colour_belongs_to_an_id_and_neighbours_differ() -> None:
    colors = [track_color(track_id) for track_id in range(60)]
    assert len(set(colors)) == 60
    assert track_color(7) == track_color(67)
    for first, second in pairwise(colors):
        assert np.abs(np.subtract(first, second)).max() > 60
    for color in colors:
        assert 0.2126 * color[0] + 0.7152 * color[1] + 0.0722 * color[2] > 80  # visible in a dark street


@pytest.mark.parametrize(("height", "width"), [(256, 448), (720, 1280), (1080, 1920), (97, 61)])
def test_boxes_are_drawn_in_the_colour_of_their_id_and_nothing_else_changes(height: int, width: int) -> None:
    frame = grey(height, width)
    box = (5, width * 0.4, height * 0.5, width * 0.8, height * 0.9)
    drawn = TrackOverlay().draw(frame, tracks_at(box))
    assert (frame == GREY).all()  # the caller's frame is untouched
    middle = int(height * 0.7)
    left, right = round(width * 0.4), round(width * 0.8)
    assert tuple(drawn[middle, left]) == track_color(5)
    assert tuple(drawn[middle, right]) == track_color(5)
    assert tuple(drawn[round(height * 0.9), (left + right) // 2]) == track_color(5)
    assert (drawn[middle, left + 8 : right - 8] == GREY).all()
    assert (drawn[:, : max(0, left - 12)] == GREY).all()


def test_without_opencv_the_same_boxes_are_drawn(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['cv2'] = None\n"
        "import warnings; warnings.simplefilter('error', UserWarning)\n"
        "import numpy as np\n"
        "from tdtrack.output.overlay import TrackOverlay, track_color\n"
        "from tdtrack.types import Tracks\n"
        "tracks = Tracks(0, [3], [[40, 60, 90, 150]], [0.9], [0])\n"
        "drawn = TrackOverlay().draw(np.full((200, 300, 3), 96, np.uint8), tracks)\n"
        "assert tuple(drawn[100, 40]) == track_color(3), drawn[100, 40]\n"
        "assert (drawn[100, 50:80] == 96).all()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_label_of_a_box_at_the_top_moves_into_the_picture() -> None:
    drawn = TrackOverlay(trail_frames=0).draw(grey(256, 448), tracks_at((9, 100, 0, 200, 250)))
    inside = drawn[4:10, 104:108].reshape(-1, 3)
    assert (inside == track_color(9)).all(axis=1).any()


def test_a_trail_follows_the_feet_and_ends() -> None:
    overlay, plain = TrackOverlay(trail_frames=6), TrackOverlay(trail_frames=0)
    for step in range(20):
        left = 20 + 15 * step
        tracks = tracks_at((2, left, 40, left + 20, 100), frame_index=step)
        drawn, without = overlay.draw(grey(200, 400), tracks), plain.draw(grey(200, 400), tracks)
    feet = np.array([20 + 15 * step + 10 for step in range(20)])
    on_trail = [(drawn[99:102, x] == track_color(2)).all(axis=1).any() for x in feet]
    assert on_trail[-6:] == [True] * 6
    assert not any(on_trail[:-8])
    assert (without[110:] == GREY).all()
    assert (without[:, : 20 + 15 * 19 - 10] == GREY).all()


def test_an_overlay_follows_a_change_of_size_and_an_empty_frame() -> None:
    overlay = TrackOverlay()
    overlay.draw(grey(200, 400), tracks_at((1, 10, 10, 50, 90)))
    np.testing.assert_array_equal(overlay.draw(grey(100, 100), tracks_at()), grey(100, 100))
    assert overlay.draw(grey(720, 1280), tracks_at((1, 10, 10, 50, 90))).shape == (720, 1280, 3)


def test_classes_are_named_where_there_are_several() -> None:
    tracks = Tracks(0, [1, 2], [[10, 60, 60, 110], [200, 60, 260, 110]], [0.9, 0.9], [1, 5])
    one = TrackOverlay(classes=("person",)).draw(grey(200, 400), tracks)
    two = TrackOverlay(classes=("person", "bicycle")).draw(grey(200, 400), tracks)
    number, name = (int((drawn[:58] != GREY).any(axis=2).sum()) for drawn in (one, two))
    assert name > 2 * number


def test_those_whose_name_is_known_are_called_by_it() -> None:
    tracks = tracks_at((1, 10, 60, 60, 110), (2, 200, 60, 260, 110))
    overlay = TrackOverlay(trail_frames=0)
    plain, named = overlay.draw(grey(200, 400), tracks), overlay.draw(grey(200, 400), tracks, {2: "anna"})
    np.testing.assert_array_equal(named[:, :150], plain[:, :150])
    shown = [int((drawn[:58, 150:] != GREY).any(axis=2).sum()) for drawn in (plain, named)]
    assert shown[1] > 2 * shown[0]


def test_detections_go_to_supervision_and_back() -> None:
    rng = np.random.default_rng(0)
    boxes = rng.uniform(0, 50, (4, 4)).astype(np.float32)
    boxes[:, 2:] += boxes[:, :2]
    detections = Detections(boxes, rng.random(4), [0, 1, 1, 0], rng.random((4, 3)))
    back = from_supervision(to_supervision(detections))
    for name in ("xyxy", "score", "class_id", "embedding"):
        np.testing.assert_array_equal(getattr(back, name), getattr(detections, name))
    assert len(from_supervision(to_supervision(Detections.empty()))) == 0
    assert from_supervision(to_supervision(Detections.empty())).embedding is None


def test_tracks_carry_their_ids_to_supervision() -> None:
    tracks = tracks_at((4, 0, 0, 5, 5), (9, 5, 5, 9, 9))
    converted = to_supervision(tracks)
    np.testing.assert_array_equal(converted.tracker_id, [4, 9])
    np.testing.assert_array_equal(converted.xyxy, tracks.xyxy)
    assert len(converted[converted.tracker_id == 9]) == 1


def test_what_supervision_leaves_out_gets_a_meaning() -> None:
    bare = from_supervision(sv.Detections(xyxy=np.array([[0.0, 0, 5, 5]])))
    assert (bare.score.tolist(), bare.class_id.tolist(), bare.embedding) == ([1.0], [0], None)
    broken = sv.Detections(xyxy=np.array([[0.0, 0, 5, 5]]))
    broken.data["embedding"] = np.zeros((2, 3))
    with pytest.raises(ShapeError, match="2 embeddings for 1 boxes"):
        from_supervision(broken)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (63, 95), (1, 1)])
def test_a_video_holds_every_frame_at_even_size(tmp_path: Path, height: int, width: int) -> None:
    path = tmp_path / "new" / "clip.mp4"
    with VideoWriter(path, frame_rate=24000 / 1001, crf=10) as writer:
        for level in (40, 120, 200):
            writer.write(np.full((height, width, 3), level, np.uint8))
    assert leftovers(path.parent) == ["clip.mp4"]
    frames = read_all(path)
    assert [frame.shape for frame in frames] == [(height + height % 2, width + width % 2, 3)] * 3
    assert [round(float(frame.mean()), -1) for frame in frames] == [40, 120, 200]
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # a browser can start before the last byte
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.frames) == ("h264", "yuv420p", 3)
        assert stream.average_rate.as_integer_ratio() == (24000, 1001)


@pytest.mark.parametrize("rate", [0.0004, 0.0006, 1 / 60, 0.7, 30000 / 1001])
def test_slow_motion_and_slow_pictures_keep_their_rate(tmp_path: Path, rate: float) -> None:
    with VideoWriter(tmp_path / "slow.mp4", frame_rate=rate) as video:
        for _ in range(3):
            video.write(grey(32, 32))
    with av.open(str(tmp_path / "slow.mp4")) as container:
        assert float(container.streams.video[0].average_rate or 0) == pytest.approx(rate, rel=1e-3)


def test_a_frame_of_another_size_is_fitted_between_bars(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "clip.mp4", frame_rate=10, crf=5) as writer:
        writer.write(np.full((64, 64, 3), 100, np.uint8))
        writer.write(np.full((20, 40, 3), 200, np.uint8))
    _, fitted = read_all(tmp_path / "clip.mp4")
    assert fitted.shape == (64, 64, 3)
    assert fitted[20:44].mean() > 190
    assert fitted[:12].mean() < 10
    assert fitted[-12:].mean() < 10


def test_an_old_video_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"old")
    with VideoWriter(path, frame_rate=10) as writer:
        writer.write(grey(32, 32))
        assert path.read_bytes() == b"old"
    assert len(read_all(path)) == 1
    writer.close()
    with pytest.raises(OutputError, match="closed"):
        writer.write(grey(32, 32))


def test_a_failed_or_empty_video_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), VideoWriter(tmp_path / "failed.mp4", frame_rate=10) as writer:
        writer.write(grey(32, 32))
        raise RuntimeError
    with VideoWriter(tmp_path / "empty.mp4", frame_rate=10):
        pass
    assert leftovers(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"clip\.mp4"):
        VideoWriter(tmp_path / "file" / "clip.mp4", frame_rate=10)


@pytest.mark.skipif(os.name != "posix" or not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_device_is_not_replaced() -> None:
    with pytest.raises(OutputError, match="/dev/full"):
        VideoWriter("/dev/full", frame_rate=10)


def test_a_build_without_the_encoder_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "_ENCODER", "libx264-that-is-missing")
    with (
        pytest.raises(OutputError, match=r"cannot encode H\.264.*pip install"),
        VideoWriter(tmp_path / "clip.mp4", frame_rate=10) as writer,
    ):
        writer.write(grey(32, 32))
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("setting", [{"frame_rate": 0}, {"frame_rate": float("nan")}, {"frame_rate": 10, "crf": 52}])
def test_settings_out_of_range_are_refused(tmp_path: Path, setting: dict[str, float]) -> None:
    with pytest.raises(OutputError, match=r"clip\.mp4"):
        VideoWriter(tmp_path / "clip.mp4", **setting)


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)])
def test_a_frame_that_is_no_rgb_image_is_refused(tmp_path: Path, image: np.ndarray) -> None:
    with VideoWriter(tmp_path / "clip.mp4", frame_rate=10) as writer, pytest.raises(ShapeError, match="video frame"):
        writer.write(image)


def test_an_overlay_video_shows_the_tracks(tmp_path: Path) -> None:
    with OverlayVideoWriter(tmp_path / "clip.mp4", frame_rate=10, crf=5) as writer:
        for step in range(4):
            writer.write_tracks(grey(128, 192), tracks_at((3, 60 + step, 40, 120 + step, 110), frame_index=step))
    frames = read_all(tmp_path / "clip.mp4")
    assert len(frames) == 4
    box = frames[-1][60:100, 62:66].reshape(-1, 3).astype(int)
    assert np.abs(box - track_color(3)).max(axis=1).min() < 40  # chroma is at half resolution
