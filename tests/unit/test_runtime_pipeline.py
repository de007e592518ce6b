from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import av
import numpy as np
import pytest

from tdtrack.association import Tracker
from tdtrack.config import AssociationConfig
from tdtrack.errors import ConfigError, MediaError, OutputError, ShapeError
from tdtrack.runtime.ahead import Ahead, Behind, Interrupt
from tdtrack.runtime.engine import FittedFrame, fit_frame
from tdtrack.runtime.frames import Frame
from tdtrack.runtime.pipeline import track_detections, track_source
from tdtrack.types import Detections, Image, Tracks

MOTION = AssociationConfig(method="motion")


class PaintedSource:
    """Frames whose pixels say which frame they are."""

    name, frame_rate, width, height, live = "painted", 10.0, 64, 48, False

    def __init__(self, indices: Sequence[int], *, fail_after: int | None = None) -> None:
        self.indices = list(indices)
        self.length: int | None = len(self.indices)
        self.truncated: str | None = None
        self.fail_after = fail_after
        self.given = 0
        self.closed = False

    def __iter__(self) -> Iterator[Frame]:
        for index in self.indices:
            if self.given == self.fail_after:
                raise MediaError("the cable is cut")
            self.given += 1
            yield Frame(index, index / self.frame_rate, np.full((48, 64, 3), index, np.uint8))
        self.truncated = "the end is missing"

    def close(self) -> None:
        self.closed = True


class WalkingEngine:
    """Two boxes, one of which walks with the frame number that the pixels show."""

    classes, embedding_dim, metadata = ("person",), None, {}

    def __call__(self, frame: Image) -> Detections:
        return walking(int(frame[0, 0, 0]))


def walking(index: int) -> Detections:
    return Detections([[2 + index, 5, 12 + index, 40], [40, 5, 50, 40]], [0.9, 0.8], [0, 0])


def expected_tracks(indices: Sequence[int]) -> list[Tracks]:
    """Loop over the tracker by hand; a missing frame counts as one without detections."""
    tracker = Tracker(MOTION, frame_rate=10)
    seen = set(indices)
    return [tracker.update(walking(index) if index in seen else Detections.empty()) for index in range(max(seen) + 1)]


def mot_lines(tracks: Sequence[Tracks]) -> list[tuple[int, int]]:
    return [(frame.frame_index + 1, int(track_id)) for frame in tracks for track_id in frame.track_id]


def read_mot(path: Path) -> list[tuple[int, int]]:
    rows = [line.split(",") for line in path.read_text().splitlines()]
    return [(int(row[0]), int(row[1])) for row in rows]


def count_frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def outputs(folder: Path) -> dict[str, Path]:
    return {"mot_path": folder / "a.txt", "jsonl_path": folder / "a.jsonl", "video_path": folder / "a.mp4"}


def test_frames_are_tracked_in_order_and_written_everywhere(tmp_path: Path) -> None:
    source, seen = PaintedSource(range(12)), []
    files = outputs(tmp_path)
    summary = track_source(
        source,
        WalkingEngine(),
        Tracker(MOTION, frame_rate=10),
        **files,
        progress=False,
        on_frame=lambda frame, found, tracks: seen.append((frame.index, len(found), tracks)),
    )
    expected = expected_tracks(range(12))
    assert [(index, count) for index, count, _ in seen] == [(index, 2) for index in range(12)]
    for (_, _, tracks), wanted in zip(seen, expected, strict=True):
        np.testing.assert_array_equal(tracks.track_id, wanted.track_id)
        np.testing.assert_allclose(tracks.xyxy, wanted.xyxy)
    assert read_mot(files["mot_path"]) == mot_lines(expected)
    lines = [json.loads(line) for line in files["jsonl_path"].read_text().splitlines()]
    assert [line["seconds"] for line in lines] == [index / 10 for index in range(12)]
    assert count_frames(files["video_path"]) == 12
    assert (summary.frames, summary.detections, summary.tracks) == (12, 24, 2)
    assert summary.files == tuple(files.values())
    assert (summary.truncated, summary.interrupted) == ("the end is missing", False)
    assert source.closed
    assert summary.seconds >= max(summary.network_seconds, summary.association_seconds) > 0
    text = "\n".join(summary.lines())
    assert "12 frames, 24 detections, 2 tracks" in text
    assert "the source is incomplete: the end is missing" in text
    assert str(files["mot_path"]) in text


def test_a_missing_frame_keeps_numbers_and_time_in_step(tmp_path: Path) -> None:
    indices = [0, 1, 2, 5, 6, 7]
    files = outputs(tmp_path)
    summary = track_source(PaintedSource(indices), WalkingEngine(), Tracker(MOTION, frame_rate=10), **files, progress=False)
    assert read_mot(files["mot_path"]) == mot_lines(expected_tracks(indices))
    lines = [json.loads(line) for line in files["jsonl_path"].read_text().splitlines()]
    assert [(line["frame_index"], line["seconds"]) for line in lines] == [(index, index / 10) for index in range(8)]
    assert count_frames(files["video_path"]) == 6
    assert summary.frames == 8


def test_time_stamps_say_how_long_a_hole_in_a_file_is(tmp_path: Path) -> None:
    class Holed(PaintedSource):
        def __iter__(self) -> Iterator[Frame]:
            for frame in super().__iter__():
                late = 0.84 if frame.index >= 6 else 0.0
                yield Frame(frame.index, frame.seconds + late + 0.004 * (frame.index % 2), frame.image)  # stamps are rounded

    given: list[float | None] = []

    class Listening(Tracker):
        def update(self, detections: Detections, *, elapsed: float | None = None, camera: object = None) -> Tracks:
            given.append(elapsed)
            return super().update(detections, elapsed=elapsed)

    track_source(Holed([*range(8), 10, 11]), WalkingEngine(), Listening(MOTION, frame_rate=10), progress=False)
    assert [index for index, elapsed in enumerate(given) if elapsed is not None] == [6]
    assert given[6] == pytest.approx(0.94, abs=0.005) and len(given) == 12


def test_a_used_tracker_starts_anew(tmp_path: Path) -> None:
    tracker = Tracker(MOTION, frame_rate=10)
    for _ in range(2):
        track_source(PaintedSource(range(4)), WalkingEngine(), tracker, mot_path=tmp_path / "a.txt", progress=False)
        assert read_mot(tmp_path / "a.txt") == mot_lines(expected_tracks(range(4)))


def test_max_frames_ends_early(tmp_path: Path) -> None:
    source = PaintedSource(range(100))
    summary = track_source(source, WalkingEngine(), Tracker(MOTION, frame_rate=10), max_frames=3, progress=False)
    assert (summary.frames, summary.truncated, summary.files) == (3, None, ())
    assert source.given == 3
    with pytest.raises(ConfigError, match="max_frames is 0"):
        track_source(source, WalkingEngine(), Tracker(MOTION), max_frames=0)


@pytest.mark.parametrize("how", ["signal", "exception"])
def test_an_interruption_keeps_whole_files(tmp_path: Path, how: str) -> None:
    def stop(frame: Frame, found: Detections, tracks: Tracks) -> None:
        if frame.index == 4:
            if how == "exception":
                raise KeyboardInterrupt
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    source, files = PaintedSource(range(250)), outputs(tmp_path)
    summary = track_source(source, WalkingEngine(), Tracker(MOTION, frame_rate=10), **files, progress=False, on_frame=stop)
    assert (summary.interrupted, summary.frames) == (True, 5)
    assert read_mot(files["mot_path"]) == mot_lines(expected_tracks(range(5)))
    assert len(files["jsonl_path"].read_text().splitlines()) == 5
    assert count_frames(files["video_path"]) == 5
    assert leftovers(tmp_path) == ["a.jsonl", "a.mp4", "a.txt"]
    assert signal.getsignal(signal.SIGINT) is before
    assert source.closed
    assert source.given < 50
    assert "interrupted after 5 frames" in "\n".join(summary.lines())


def test_a_second_interruption_is_immediate() -> None:
    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert interrupt.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_an_error_of_the_engine_leaves_no_file(tmp_path: Path) -> None:
    class Failing(WalkingEngine):
        def __call__(self, frame: Image) -> Detections:
            if frame[0, 0, 0] == 3:
                raise ShapeError("no more")
            return super().__call__(frame)

    source = PaintedSource(range(9))
    with pytest.raises(ShapeError, match="no more"):
        track_source(source, Failing(), Tracker(MOTION, frame_rate=10), **outputs(tmp_path), progress=False)
    assert leftovers(tmp_path) == []
    assert source.closed


def test_an_error_of_the_source_arrives_after_the_frames_before_it() -> None:
    seen: list[int] = []
    with pytest.raises(MediaError, match="the cable is cut"):
        track_source(
            PaintedSource(range(9), fail_after=4),
            WalkingEngine(),
            Tracker(MOTION, frame_rate=10),
            progress=False,
            on_frame=lambda frame, found, tracks: seen.append(frame.index),
        )
    assert seen == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["mot_path", "jsonl_path", "video_path"])
def test_a_path_that_cannot_be_written_is_known_before_the_first_frame(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("in the way")
    source = PaintedSource(range(9))
    with pytest.raises(OutputError, match="result"):
        track_source(
            source,
            WalkingEngine(),
            Tracker(MOTION),
            **{name: tmp_path / "file" / "result"},
            progress=False,
            on_frame=lambda frame, found, tracks: pytest.fail("a frame was tracked"),
        )
    assert source.closed


def no_thread_is_left() -> bool:
    return not any(thread.name.startswith("tdtrack-") for thread in threading.enumerate())


def test_a_slow_reader_holds_the_source_back() -> None:
    source = PaintedSource(range(200))
    with Interrupt() as interrupt, Ahead(source, interrupt, name="read", ahead=3) as frames:
        for frame in frames:
            assert source.given <= frame.index + 1 + 3 + 1  # read, waiting, and one in the hand of the thread
            if frame.index in (0, 10):
                time.sleep(0.05)  # time enough to run away
            if frame.index == 20:
                break
    assert source.given <= 25
    assert no_thread_is_left()


def test_slow_work_holds_the_giver_back_and_is_finished() -> None:
    done, gate = [], threading.Event()

    def work(item: int) -> None:
        assert gate.wait(10)
        done.append(item)

    given = []
    with Behind(work, name="write", behind=3) as behind:
        giver = threading.Thread(target=lambda: [(behind.put(item), given.append(item)) for item in range(10)])
        giver.start()
        time.sleep(0.05)  # time enough to run away
        assert len(given) <= 4  # three wait, one is in the hand of the worker
        gate.set()
        giver.join()
    assert done == list(range(10))
    assert no_thread_is_left()


def test_an_error_of_the_work_reaches_the_giver() -> None:
    def work(item: int) -> None:
        if item == 2:
            raise OutputError("disk full")

    with pytest.raises(OutputError, match="disk full"), Behind(work, name="write", behind=1) as behind:
        for item in range(1000):
            behind.put(item)
    with pytest.raises(OutputError, match="disk full"), Behind(work, name="write") as behind:
        behind.put(2)  # nothing is put after it: leaving says so
    assert no_thread_is_left()


def test_frames_that_wait_too_long_are_dropped_where_only_the_newest_counts() -> None:
    seen, resume, arrived = [], threading.Event(), threading.Event()

    def source() -> Iterator[int]:
        yield 0
        assert resume.wait(10)
        yield from range(1, 8)
        arrived.set()
        yield 8

    with Interrupt() as interrupt, Ahead(source(), interrupt, name="read", latest=True) as items:
        for item in items:
            seen.append(item)
            if item == 0:
                resume.set()
                assert arrived.wait(10)
    assert seen[0] == 0 and seen[-1] == 8
    assert len(seen) + items.dropped == 9
    assert items.dropped >= 6


class LiveSource(PaintedSource):
    """Frames whose clock runs on: each is shown only after the one before was taken or dropped."""

    live = True

    def __iter__(self) -> Iterator[Frame]:
        for frame in super().__iter__():
            yield frame
            time.sleep(0.002)


class SlowEngine(WalkingEngine):
    """Takes longer than a live source shows a frame."""

    def __call__(self, frame: Image) -> Detections:
        time.sleep(0.03)
        return super().__call__(frame)


def test_a_live_source_drops_frames_counts_them_and_keeps_time(tmp_path: Path) -> None:
    files, seen = outputs(tmp_path), []
    summary = track_source(
        LiveSource(range(60)),
        SlowEngine(),
        Tracker(MOTION, frame_rate=10),
        **files,
        progress=False,
        batch_size=1,
        on_frame=lambda frame, found, tracks: seen.append((frame.index, tracks)),
    )
    indices = [index for index, _ in seen]
    assert indices == sorted(set(indices)) and indices[-1] == 59
    assert summary.dropped > 0
    assert summary.frames + summary.dropped == 60
    assert [tracks.frame_index for _, tracks in seen] == [
        index - indices[0] for index in indices
    ]  # 10 frames a second: time stamps say which were dropped
    by_hand = Tracker(MOTION, frame_rate=10)
    for before, (index, tracks) in zip([indices[0] - 1, *indices], seen):
        if (index - before) / 10 > MOTION.lost_seconds:
            by_hand.forget()
        by_hand.skip(index - before - 1)
        np.testing.assert_array_equal(tracks.track_id, by_hand.update(walking(index)).track_id)
    lines = [json.loads(line) for line in files["jsonl_path"].read_text().splitlines()]
    assert [line["seconds"] for line in lines] == [index / 10 for index in indices]
    assert f"{summary.dropped} frames came faster" in "\n".join(summary.lines())


def test_of_a_live_source_the_frames_that_are_looked_at_count(tmp_path: Path) -> None:
    summary = track_source(LiveSource(range(400)), SlowEngine(), Tracker(MOTION, frame_rate=10), max_frames=3, progress=False)
    assert summary.frames == 3
    assert summary.dropped > 0


def test_batches_give_the_same_tracks(tmp_path: Path) -> None:
    class Batched(WalkingEngine):
        sizes: ClassVar[list[int]] = []

        def fit(self, frame: Image) -> FittedFrame:
            return fit_frame(frame, 48, 64)

        def detect_fitted(self, frames: Sequence[FittedFrame]) -> list[Detections]:
            self.sizes.append(len(frames))
            return [self(frame.image) for frame in frames]

    track_source(
        PaintedSource(range(10)),
        Batched(),
        Tracker(MOTION, frame_rate=10),
        mot_path=tmp_path / "a.txt",
        batch_size=4,
        progress=False,
    )
    assert Batched.sizes == [4, 4, 2]
    assert read_mot(tmp_path / "a.txt") == mot_lines(expected_tracks(range(10)))
    with pytest.raises(ConfigError, match="takes one frame at a time"):
        track_source(PaintedSource(range(2)), WalkingEngine(), Tracker(MOTION), batch_size=2)
    with pytest.raises(ConfigError, match="batch_size is 0"):
        track_source(PaintedSource(range(2)), Batched(), Tracker(MOTION), batch_size=0)


def test_stages_run_beside_each_other(tmp_path: Path) -> None:
    """While frame 5 is written, later frames must reach the network: with one thread for all, this would wait for ever."""
    later = threading.Event()

    class Telling(WalkingEngine):
        def __call__(self, frame: Image) -> Detections:
            if frame[0, 0, 0] == 7:
                later.set()
            return super().__call__(frame)

    def wait(frame: Frame, found: Detections, tracks: Tracks) -> None:
        if frame.index == 5:
            assert later.wait(10)

    summary = track_source(PaintedSource(range(9)), Telling(), Tracker(MOTION, frame_rate=10), progress=False, on_frame=wait)
    assert summary.frames == 9


def test_saved_detections_give_what_the_tracker_gives(tmp_path: Path) -> None:
    records = [walking(index) for index in range(8)]
    tracker = Tracker(MOTION, frame_rate=10)
    summary = track_detections(records, tracker, tmp_path / "out" / "tracks.txt")
    assert read_mot(tmp_path / "out" / "tracks.txt") == mot_lines(expected_tracks(range(8)))
    assert (summary.frames, summary.detections, summary.tracks, summary.network_fps) == (8, 16, 2, None)
    assert summary.files == (tmp_path / "out" / "tracks.txt",)
    assert summary.association_fps is not None
    assert track_detections([], tracker).fps == 0


def test_a_frame_without_the_embeddings_it_needs_is_named(tmp_path: Path) -> None:
    whole = walking(0).with_embedding(np.eye(2, dtype=np.float32))
    with pytest.raises(ShapeError, match="frame_index 1"):
        track_detections([whole, walking(1)], Tracker(AssociationConfig(method="fairmot")), tmp_path / "tracks.txt")
    assert leftovers(tmp_path) == []


def test_saved_detections_need_neither_torch_nor_a_video_library() -> None:
    program = (
        "import sys\n"
        "import tdtrack.runtime\n"
        "from tdtrack.runtime import track_detections, load_engine\n"
        "loaded = {'torch', 'av', 'supervision', 'onnxruntime', 'pyarrow'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
        "for name in tdtrack.runtime.__all__: getattr(tdtrack.runtime, name)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
