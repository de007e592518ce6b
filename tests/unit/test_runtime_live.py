"""Cameras and streams that stall, drop, fail, change their size and come back."""

from __future__ import annotations

import itertools
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from camera import SIZES, Camera, Fault, Network, Watch
from media_files import moving_squares, write_video
from tdtrack.association import Tracker
from tdtrack.errors import ConfigError, MediaError
from tdtrack.runtime import streams
from tdtrack.runtime.frames import Frame
from tdtrack.runtime.live import LiveSource
from tdtrack.runtime.pipeline import track_source
from tdtrack.runtime.sources import open_source

FAULTS = [
    Fault(60, 5, "stall"),
    Fault(120, 8, "drop"),
    Fault(180, 40, "stall"),
    Fault(300, 90, "failure"),
    Fault(420, 4, "failure"),
]


def open_camera(camera: Camera, *, max_outage: float = 600) -> LiveSource:
    return LiveSource(camera.connect, "camera", clock=camera.clock, wait=camera.wait, max_outage=max_outage)


def test_ten_minutes_of_a_camera_with_faults(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    camera = Camera(2, 600, list(FAULTS))
    source, watch, tracker = open_camera(camera), Watch(camera), Tracker(frame_rate=2)
    with caplog.at_level(logging.WARNING, "tdtrack"):
        summary = track_source(
            source, Network(camera), tracker, jsonl_path=tmp_path / "a.jsonl", progress=False, on_frame=watch
        )
    assert len(camera.sizes) > 1  # the network itself refuses all but the first
    np.testing.assert_allclose([(outage.start, outage.seconds) for outage in summary.outages], camera.gaps)
    assert [outage.start for outage in summary.outages] == pytest.approx([fault.start for fault in FAULTS], abs=1)
    assert [line.getMessage().partition(" s from")[0] for line in caplog.records] == [
        f"camera: no frames for {seconds:.1f}" for _, seconds in camera.gaps
    ]
    assert watch.confused == 0
    assert watch.split(camera.gaps, tracker.config.lost_seconds) == 0
    assert watch.split([], tracker.config.lost_seconds) > 0  # the two long outages do cost the ids of those who were there
    assert (summary.truncated, summary.dropped) == (None, 0)
    assert "away 5 times" in "\n".join(summary.lines())


def test_the_tracker_is_told_the_real_time() -> None:
    camera, told = Camera(2, 60, [Fault(20, 4, "stall"), Fault(40, 15, "failure")]), []

    class Spy(Tracker):
        def update(self, detections, *, elapsed=None, camera=None):
            told.append(elapsed)
            return super().update(detections, elapsed=elapsed, camera=camera)

    track_source(open_camera(camera), Network(camera), Spy(frame_rate=2), progress=False, on_frame=Watch(camera))
    passed = [1 / 2 if seconds is None else seconds for seconds in told]
    assert sum(passed[1:]) == pytest.approx(camera._last, abs=1)  # the first frame is at time 0
    assert max(passed) > 10


def test_a_camera_that_stays_away_is_given_up_and_the_failure_is_told() -> None:
    camera = Camera(2, 600, [Fault(20, 400, "failure")])
    source = open_camera(camera, max_outage=60)
    track_source(source, Network(camera), Tracker(frame_rate=2), progress=False, on_frame=Watch(camera))
    assert source.truncated is not None and "did not come back within 60 s" in source.truncated
    assert camera.now == pytest.approx(20 + 60, abs=1)
    (outage,) = source.outages
    assert outage.seconds == pytest.approx(60, abs=1)


@pytest.mark.parametrize(("kind", "told"), [("drop", None), ("failure", "reading stopped at 20.00 s")])
def test_without_patience_any_end_is_the_end(kind: str, told: str | None) -> None:
    camera = Camera(2, 600, [Fault(20, 1, kind)])
    source = open_camera(camera, max_outage=0)
    track_source(source, Network(camera), Tracker(frame_rate=2), progress=False, on_frame=Watch(camera))
    assert (source.truncated, camera.connections) == (told, 1)


def test_attempts_come_at_growing_intervals_up_to_a_bound() -> None:
    waits: list[float] = []
    camera = Camera(2, 600, [Fault(10, 300, "failure")])

    def wait(seconds: float) -> None:
        waits.append(seconds)
        camera.wait(seconds)

    source = LiveSource(camera.connect, "camera", clock=camera.clock, wait=wait, max_outage=600)
    track_source(source, Network(camera), Tracker(frame_rate=2), progress=False, on_frame=Watch(camera))
    np.testing.assert_allclose(waits, [min(0.5 * 1.5**attempt, 30) for attempt in range(len(waits))])
    assert waits[-1] == 30


def test_a_clock_that_is_set_does_not_turn_time_back() -> None:
    class Jumping:
        name, live, length, frame_rate, width, height, truncated, complete = "jump", True, None, 10.0, 4, 4, None, True

        def __iter__(self) -> Iterator[Frame]:
            for index, seconds in enumerate((0.0, 0.1, 90.0, 90.1, 0.2, 0.3)):
                clock[0] += 0.1
                yield Frame(index, seconds, np.zeros((4, 4, 3), np.uint8))

        def close(self) -> None:
            pass

    clock = [0.0]
    seconds = [frame.seconds for frame in LiveSource(Jumping, "jump", clock=lambda: clock[0])]
    np.testing.assert_allclose(seconds, [0, 0.1, 0.2, 0.3, 0.4, 0.5], atol=1e-9)


def test_outages_are_no_negative_time() -> None:
    with pytest.raises(ConfigError, match="max_outage is -1"):
        open_source("rtsp://127.0.0.1:9/live", max_outage=-1)


class Server:
    """A TCP server that plays videos, one a connection, and then closes the connection or falls silent."""

    def __init__(self, plays: list[tuple[bytes, str]]) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._socket.getsockname()[1]}"
        self._plays, self._silent = plays, []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        for content, after in self._plays:
            connection, _ = self._socket.accept()
            connection.sendall(content)
            if after == "silence":
                self._silent.append(connection)
            else:
                connection.close()
        self._socket.close()  # from now on connections are refused


@pytest.fixture
def small_and_large(tmp_path: Path) -> tuple[bytes, bytes]:
    small = write_video(tmp_path / "small.ts", moving_squares(60, 48, 64), noise=20)
    return small.read_bytes(), write_video(tmp_path / "large.ts", moving_squares(60, 96, 128), noise=20).read_bytes()


def test_a_stream_over_tcp_closes_falls_silent_and_comes_back_larger(
    small_and_large: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_TIMEOUT_SECONDS", 0.7)
    small, large = small_and_large
    server = Server([(small, "close"), (large, "silence"), (small, "close")])
    source = open_source(server.address, max_outage=1.5)
    frames = list(source)
    assert len(frames) >= 3 * 50  # of 60 each; what the silence leaves in the decoder may be lost
    assert {frame.image.shape for frame in frames} == {(48, 64, 3)}
    seconds = [frame.seconds for frame in frames]
    assert all(before < after for before, after in itertools.pairwise(seconds))
    assert source.truncated is not None and "did not come back within 1.5 s" in source.truncated
    pattern = moving_squares(60, 48, 64)[0]
    for frame in (frames[0], frames[70]):
        assert np.abs(frame.image.astype(int) - pattern).mean() < 40  # the same picture, whatever size it came in


def test_a_file_is_never_opened_again(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", moving_squares(10))
    assert not isinstance(open_source(path), LiveSource)


def test_a_wrong_address_is_told_at_once() -> None:
    with pytest.raises(MediaError, match="cannot be opened"):
        open_source("tcp://127.0.0.1:9", max_outage=float("inf"))


def test_stopping_does_not_wait_for_the_camera() -> None:
    camera = Camera(2, 600, [Fault(5, 400, "failure")])
    source = LiveSource(camera.connect, "camera", clock=camera.clock)  # its waits take real time, 30 s at the end
    threading.Timer(0.5, source.stop).start()
    given = 0
    for _ in source:
        given += 1
        camera.looked()
    assert (given, source.truncated) == (10, None)
    assert SIZES[0] == (source.height, source.width)
