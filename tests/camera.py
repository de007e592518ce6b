"""A simulated camera with a clock of its own: stalls, drops, restarts and changes of size, at full speed."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tdtrack.errors import MediaError
from tdtrack.runtime.frames import Frame
from tdtrack.types import Detections, Image, Tracks

DIM = 32
SIZES = ((36, 64), (24, 32), (48, 64))  # height and width of the picture; the first is the one that counts
KINDS = ("stall", "drop", "failure")
WALK_SECONDS, EVERY_SECONDS = 30.0, 10.0  # a person crosses the picture; the next one comes
TIMEOUT = 15.0  # of a silent connection, as the real ones have
PATIENCE = 60.0  # real seconds; more means that the pipeline stands still


@dataclass(frozen=True)
class Fault:
    """The camera is away: silent ("stall"), closed in order ("drop") or failing ("failure")."""

    start: float
    seconds: float
    kind: str


@dataclass
class Camera:
    """The camera and its simulated time.

    Attributes:
        rate: frames per second.
        seconds: when it is switched off.
        faults: in order of start; those that are over are taken away.
        now: simulated seconds.
        size: height and width at present.
        connections: how often it was opened.
        gaps: (start, seconds) between frames that are at least 2 s apart.
    """

    rate: float
    seconds: float
    faults: list[Fault]
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    now: float = 0.0
    size: tuple[int, int] = SIZES[0]
    connections: int = 0
    gaps: list[tuple[float, float]] = field(default_factory=list)
    sizes: set[tuple[int, int]] = field(default_factory=set)
    _last: float | None = None
    _looked: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def clock(self) -> float:
        """Return the simulated time."""
        return self.now

    def wait(self, seconds: float) -> None:
        """Let simulated time pass."""
        self.now += seconds

    def fault(self) -> Fault | None:
        """Return what is wrong at present."""
        while self.faults and self.now >= self.faults[0].start + self.faults[0].seconds:
            self.faults.pop(0)
        return self.faults[0] if self.faults and self.now >= self.faults[0].start else None

    def connect(self) -> Connection:
        """Open the camera, as ``LiveSource`` does."""
        if self.fault() is not None or self.now >= self.seconds:
            raise MediaError("camera: cannot be opened (Connection refused)")
        self.connections += 1
        if self.connections > 1:
            self.size = SIZES[int(self.random.integers(len(SIZES)))]
        return Connection(self)

    def show(self) -> Image:
        """Return a frame of the present size."""
        if self._last is not None and self.now - self._last >= 2.0:
            self.gaps.append((self._last, self.now - self._last))
        self._last = self.now
        self.sizes.add(self.size)
        return np.zeros((*self.size, 3), np.uint8)

    def looked(self) -> None:
        """Tell that the frame was tracked: time may go on."""
        self._looked.release()

    def hold(self) -> None:
        """Wait until the frame was tracked, so that no simulated frame comes too fast."""
        if not self._looked.acquire(timeout=PATIENCE):
            raise TimeoutError("nobody took the frame")


class Connection:
    """One connection: time stamps start at 0 again."""

    name, live, length = "camera", True, None

    def __init__(self, camera: Camera) -> None:
        self._camera, self.frame_rate = camera, camera.rate
        self.height, self.width = camera.size
        self.truncated: str | None = None
        self.complete = False

    def __iter__(self) -> Iterator[Frame]:
        camera, began, index = self._camera, self._camera.now, 0
        while camera.now < camera.seconds:
            fault = camera.fault()
            if fault is not None and fault.kind == "stall" and fault.seconds < TIMEOUT:
                camera.now = fault.start + fault.seconds  # silence, then it goes on in the same connection
            elif fault is not None:
                camera.now += TIMEOUT if fault.kind == "stall" else 0.0
                self.truncated = None if fault.kind == "drop" else f"reading stopped at {camera.now - began:.2f} s"
                return
            yield Frame(index, camera.now - began, camera.show())
            camera.hold()
            index += 1
            camera.now += 1 / camera.rate
        self.complete = True

    def close(self) -> None:
        """Nothing is held."""


def people(now: float) -> tuple[list[int], Detections]:
    """Return the numbers of the people in the picture, and what a network would find."""
    numbers, boxes, looks = [], [], []
    for number in range(max(0, int((now - WALK_SECONDS) / EVERY_SECONDS)), int(now / EVERY_SECONDS) + 1):
        age = now - number * EVERY_SECONDS
        if 0 <= age < WALK_SECONDS:
            random = np.random.default_rng(number)
            left, top = 2 + age / WALK_SECONDS * 50, random.uniform(2, 15)
            numbers.append(number)
            boxes.append([left, top, left + 5, top + 15])
            look = random.normal(size=DIM)
            looks.append(look / np.linalg.norm(look))
    boxes_array = np.array(boxes, np.float32).reshape(-1, 4)
    count = len(numbers)
    return numbers, Detections(boxes_array, np.full(count, 0.9), np.zeros(count), np.array(looks).reshape(-1, DIM))


class Network:
    """Stands for the network: knows who is in front of the camera."""

    classes, embedding_dim = ("person",), DIM

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self.metadata: dict[str, Any] = {}

    def __call__(self, frame: Image) -> Detections:
        assert frame.shape[:2] == SIZES[0], "a frame of another size reached the network"
        return people(self._camera.now)[1]


class Watch:
    """Takes down which person each track id meant, in arrays of fixed size.

    Attributes:
        person_of_id: -1 for an id that was not seen.
        ids_of_person: how many ids each person had.
        confused: reports in which an id meant another person than before.
    """

    def __init__(self, camera: Camera, most_ids: int = 200_000) -> None:
        self._camera = camera
        self.person_of_id = np.full(most_ids, -1, np.int64)
        self.ids_of_person = np.zeros(most_ids, np.int64)
        self.confused = 0

    def __call__(self, frame: Frame, detections: Detections, tracks: Tracks) -> None:
        """Take in one frame, then let time go on."""
        numbers, found = people(self._camera.now)
        centres = found.xyxy.reshape(-1, 2, 2).mean(axis=1)
        for track_id, xyxy in zip(tracks.track_id.tolist(), tracks.xyxy):
            distance = np.abs(centres - xyxy.reshape(2, 2).mean(axis=0)).sum(axis=1)
            if not len(distance) or distance.min() > 4:
                continue  # reported where nobody is any more
            number = numbers[int(distance.argmin())]
            before = int(self.person_of_id[track_id])
            self.confused += before not in (-1, number)
            if before == -1:
                self.person_of_id[track_id] = number
                self.ids_of_person[number] += 1
        self._camera.looked()

    def split(self, gaps: Sequence[tuple[float, float]], lost_seconds: float) -> int:
        """Count the people who got a second id although no gap in their time was as long as a track may be lost."""
        long = [(start, start + seconds) for start, seconds in gaps if seconds >= lost_seconds]
        several = np.flatnonzero(self.ids_of_person > 1).tolist()
        lives = [(number * EVERY_SECONDS, number * EVERY_SECONDS + WALK_SECONDS) for number in several]
        return sum(not any(start < end_of_life and end > life for start, end in long) for life, end_of_life in lives)
