"""Writes the world's three parts as files that the rest of the package reads like any other data."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from rich.progress import Progress

from tdtrack.boxes import xyxy_to_tlwh
from tdtrack.data.coco import write_coco
from tdtrack.data.dataset import AnnotatedImage
from tdtrack.data.walkers.config import WalkersConfig
from tdtrack.data.walkers.crops import write_crops
from tdtrack.data.walkers.pictures import PictureWriter
from tdtrack.data.walkers.render import Frame, Part, make_shot, render_frame
from tdtrack.errors import DataError
from tdtrack.files import atomic_write, reason_of
from tdtrack.processes import end_with_parent
from tdtrack.types import IntArray

__all__ = ["World", "write_world"]

MIN_ANNOTATED = 0.02
"""Below this visibility nothing of a person is left to see, and the detection set does not mention them."""
PEDESTRIAN, DISTRACTOR = 1, 8
"""MOTChallenge's classes of people to be found, and of those whom it is neither right nor wrong to find."""


@dataclass(frozen=True, slots=True)
class World:
    """Where the parts of a written world are.

    Attributes:
        root: the world's folder.
        reid: Re-ID set in Market-1501 layout.
        train: COCO file of the detection set's training images, without identities.
        val: COCO file of its held-out images.
        images: folder that the file names in both are relative to.
        sequences: MOT sequence folders, in order.
    """

    root: Path
    reid: Path
    train: Path
    val: Path
    images: Path
    sequences: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class _Job:
    """A piece of the world that one process makes on its own."""

    part: Part | Literal["reid"]
    index: int

    @property
    def name(self) -> str:
        return f"{self.part}-{self.index + 1:02d}"


def write_world(config: WalkersConfig, out: Path, *, progress: bool = True, workers: int = 2) -> World:
    """Write Re-ID set, detection set and MOT sequences.

    Pieces that an earlier, interrupted call finished are kept. The bytes do not depend on ``workers`` or on interruptions.

    Args:
        config: the world.
        out: folder to write to.
        progress: show a progress bar.
        workers: processes; 1 stays in this one. More are spawned, so a script that asks for them needs the usual
            ``if __name__ == "__main__"``.

    Returns:
        Where the parts are.

    Raises:
        DataError: the folder holds a world with other settings; names the first one that differs.
        OutputError: a file cannot be written.
    """
    out = Path(out)
    _claim(config, out)
    jobs = [_Job("sequence", index) for index in range(config.sequences)]
    reid = config.reid_identities + config.reid_test_identities > 0
    jobs += [_Job("reid", index) for index in range(config.reid_cameras if reid else 0)]
    jobs += [_Job("train", index) for index in range(config.detection_videos)]
    jobs += [_Job("val", index) for index in range(config.validation_videos)]
    left = [job for job in jobs if not _receipt(out, job).is_file()]
    with Progress(disable=not progress) as bar:
        task = bar.add_task("walkers", total=len(jobs), completed=len(jobs) - len(left))
        for _ in _run(config, out, left, workers):
            bar.advance(task)
    detection = out / "detection"
    for part in ("train", "val"):
        _merge(config, out, [job for job in jobs if job.part == part], detection / f"{part}.json")
    sequences = tuple(_sequence_folder(out, index) for index in range(config.sequences))
    return World(out, out / "reid", detection / "train.json", detection / "val.json", detection / "images", sequences)


def _claim(config: WalkersConfig, out: Path) -> None:
    """Mark the folder as this world's, or refuse one that is another's."""
    path = out / "world.json"
    mine = asdict(config)
    if not path.is_file():
        with atomic_write(path, "w") as file:
            json.dump({"walkers": mine}, file, indent=2)
        return
    try:
        theirs = json.loads(path.read_text(encoding="utf-8"))["walkers"]
        differing = [name for name in mine if theirs.get(name) != mine[name]]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {reason_of(error)}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: is not the description of a walkers world; write to another folder") from error
    if differing:
        name = differing[0]
        raise DataError(
            f"{path}: holds a world with {name} {theirs.get(name)!r}, not {mine[name]!r}; "
            f"write to another folder or delete this one"
        )


def _run(config: WalkersConfig, out: Path, jobs: list[_Job], workers: int) -> Iterator[None]:
    """Do the jobs, here or in spawned processes; yield after each."""
    if workers <= 1 or len(jobs) <= 1:
        for job in jobs:
            _do(config, out, job)
            yield
        return
    context = multiprocessing.get_context("spawn")  # forking a process that runs threads can hang
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context, initializer=end_with_parent) as pool:
        futures = [pool.submit(_do, config, out, job) for job in jobs]
        try:
            for future in as_completed(futures):
                future.result()
                yield
        finally:
            pool.shutdown(cancel_futures=True)


def _receipt(out: Path, job: _Job) -> Path:
    """File that says a job is finished; written last."""
    return out / ".finished" / f"{job.name}.json"


def _do(config: WalkersConfig, out: Path, job: _Job) -> None:
    record: object = None
    if job.part == "sequence":
        _write_sequence(config, out, job.index)
    elif job.part == "reid":
        write_crops(config, out / "reid", job.index)
    else:
        record = _write_detection_video(config, out, job.part, job.index, job.name)
    with atomic_write(_receipt(out, job), "w") as file:
        json.dump(record, file)


# ------------------------------------------------------------------------------------------------------ detection set


def annotated_rows(frame: Frame) -> IntArray:
    """Return which of a frame's people the detection set mentions, in its order.

    In the order of identities, boxes would give away who is who across frames; so top first, then left.
    """
    order = np.lexsort((frame.xyxy[:, 0], frame.xyxy[:, 1]))
    return np.asarray(order[frame.visibility[order] >= MIN_ANNOTATED])


def frame_step(config: WalkersConfig) -> int:
    """Return how many frames of a video lie between two that the detection set shows."""
    return max(1, round(config.detection_gap * config.frame_rate))


def _write_detection_video(config: WalkersConfig, out: Path, part: Part, index: int, name: str) -> list[dict[str, object]]:
    """Write sparse frames of one video; return its boxes, without identities."""
    count = config.detection_frames if part == "train" else config.validation_frames
    step = frame_step(config)
    shot = make_shot(config, part, index, count * step)
    records: list[dict[str, object]] = []
    with PictureWriter() as pictures:
        for number in range(count):
            frame = render_frame(shot, number * step)
            file_name = f"{name}-{number * step + 1:06d}.jpg"
            pictures.write(out / "detection" / "images" / file_name, frame.image, shot.style.quality)
            keep = annotated_rows(frame)
            ignore = frame.visibility[keep] < config.min_visibility
            records.append({"file": file_name, "xyxy": frame.xyxy[keep].tolist(), "ignore": ignore.tolist()})
    return records


def _merge(config: WalkersConfig, out: Path, jobs: list[_Job], path: Path) -> None:
    """Collect the boxes of all videos of one part into one COCO file."""
    if path.is_file():
        return
    images: list[AnnotatedImage] = []
    annotations = 1
    folder = out / "detection" / "images"
    for job in jobs:
        for record in json.loads(_receipt(out, job).read_text(encoding="utf-8")):
            count = len(record["xyxy"])
            images.append(
                AnnotatedImage(
                    image_id=len(images) + 1,
                    path=folder / record["file"],
                    width=config.width,
                    height=config.height,
                    annotation_id=np.arange(annotations, annotations + count, dtype=np.int64),
                    xyxy=np.array(record["xyxy"], np.float32).reshape(-1, 4),
                    class_id=np.zeros(count, np.int64),
                    ignore=np.array(record["ignore"], bool),
                )
            )
            annotations += count
    description = f"walkers, a synthetic world (seed {config.seed}): frames of videos, identities withheld"
    write_coco(path, images, ("person",), images_dir=folder, description=description, licence="made by tdtrack, free of rights")


# ------------------------------------------------------------------------------------------------------ MOT sequences


def _sequence_folder(out: Path, index: int) -> Path:
    return out / "sequences" / f"walkers-{index + 1:02d}"


def _write_sequence(config: WalkersConfig, out: Path, index: int) -> None:
    folder = _sequence_folder(out, index)
    shot = make_shot(config, "sequence", index, config.sequence_frames)
    lines: list[str] = []
    with PictureWriter() as pictures:
        for number in range(config.sequence_frames):
            frame = render_frame(shot, number)
            pictures.write(folder / "img1" / f"{number + 1:06d}.jpg", frame.image, shot.style.quality)
            lines.extend(_ground_truth(frame, number, config.min_visibility))
    with atomic_write(folder / "seqinfo.ini", "w") as file:
        file.write(
            f"[Sequence]\nname={folder.name}\nimDir=img1\nframeRate={config.frame_rate:g}\nseqLength={config.sequence_frames}\n"
            f"imWidth={config.width}\nimHeight={config.height}\nimExt=.jpg\n"
        )
    with atomic_write(folder / "gt" / "gt.txt", "w") as file:
        file.write("".join(lines))


def _ground_truth(frame: Frame, number: int, min_visibility: float) -> Iterator[str]:
    """Give MOT17's nine columns; the hardly visible get flag 0 and a class that neither rewards nor punishes."""
    for identity, tlwh, visibility in zip(frame.identity, xyxy_to_tlwh(frame.xyxy), frame.visibility):
        left, top, width, height = (int(side) for side in tlwh)
        flag, kind = (1, PEDESTRIAN) if visibility >= min_visibility else (0, DISTRACTOR)
        yield f"{number + 1},{identity},{left},{top},{width},{height},{flag},{kind},{visibility:.5f}\n"
