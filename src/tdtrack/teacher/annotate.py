"""Give every box of a data set its teacher embedding, once and beforehand (Sec. 3.3)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tdtrack.data.dataset import AnnotatedImage, DetectionDataset
from tdtrack.data.images import load_image
from tdtrack.data.store import EmbeddingStore
from tdtrack.data.store_writer import StoreWriter, discard_parts
from tdtrack.errors import ConfigError, DataError
from tdtrack.jobs.pool import Failure, RayCluster, run_on_ray
from tdtrack.teacher.crops import crop_boxes, resize_crops
from tdtrack.teacher.load import Teacher
from tdtrack.types import BoolArray, Image

__all__ = ["annotate", "annotate_on_ray"]

_ROWS_PER_PART = 2048  # what a kill costs at most; small enough for a CPU to finish one in seconds
_REASONS_SHOWN = 5
_LOOK_AHEAD = 4  # decoded images waiting per worker; bounds memory


def annotate(
    dataset: DetectionDataset,
    teacher: Teacher,
    out: Path | str,
    *,
    batch_size: int = 64,
    workers: int = 2,
    progress: bool = True,
) -> EmbeddingStore:
    """Embed all boxes of a data set and keep the result on disk.

    Boxes form one list in the order of the data set, and batches are cut from it by position. So the store does not depend
    on the number of workers, nor on how often the run was killed and started again: a second call resumes after the last
    finished part and ends in the same bytes. A store that is already there and fits is opened and returned at once.

    Args:
        dataset: images and boxes. Ignored boxes are embedded too: one embedding per box.
        teacher: what embeds the crops.
        out: the Parquet file to write; unfinished work waits in a folder beside it.
        batch_size: crops per call of the teacher, at least 1.
        workers: threads that decode, crop and resize, at least 1.
        progress: show a progress bar on standard error.

    Returns:
        The store, one row per box; without rows if the data set has no boxes.

    Raises:
        StoreError: ``out`` exists and belongs to other data or another teacher; says which.
        DataError: an image cannot be read or has another size than the data set says.
        ConfigError: ``batch_size`` or ``workers`` is below 1.
        OutputError: the store cannot be written.
    """
    _require_positive(batch_size, workers)
    out = Path(out)
    if (store := _finished(out, dataset, teacher)) is not None:
        return store
    writer = _writer(dataset, teacher, out, batch_size)
    ids, done = dataset.annotation_id, writer.done_parts()
    pending = ~np.isin(np.arange(len(ids)) // writer.rows_per_part, list(done))
    with _bar(progress) as bar, closing(_crops(dataset, pending, teacher, workers)) as crops:
        task = bar.add_task("annotate", total=len(ids), completed=int((~pending).sum()))
        for part in sorted(set(range(writer.num_parts)) - done):
            rows = writer.part_rows(part)
            embeddings = np.empty((len(rows), teacher.dim), dtype=np.float32)
            for start in range(0, len(rows), batch_size):
                batch = list(islice(crops, min(batch_size, len(rows) - start)))
                embeddings[start : start + len(batch)] = teacher.embed(batch)
                bar.advance(task, len(batch))
            writer.write_part(part, ids[rows.start : rows.stop], embeddings)
    writer.finish()
    return EmbeddingStore.open(out)


def annotate_on_ray(
    load: Callable[[], tuple[DetectionDataset, Teacher]],
    out: Path | str,
    cluster: RayCluster,
    *,
    batch_size: int = 64,
    workers: int = 2,
    progress: bool = True,
) -> EmbeddingStore:
    """Embed all boxes of a data set on the workers of a Ray cluster.

    The parts of the store are the items of the job; each appears whole or not at all. The store is the same bytes as that of
    ``annotate``, as far as the teacher computes the same: torch's numbers on a CPU depend on the number of its threads. Parts
    that one of the two has left are used by the other.

    Args:
        load: reads the data set and loads the teacher; called here and once in every worker, so it has to be importable there.
        out: as in ``annotate``, on a file system that all machines share.
        cluster: where the workers are.
        batch_size: as in ``annotate``.
        workers: as in ``annotate``, threads of each worker.
        progress: show a progress bar on standard error.

    Returns:
        As ``annotate``.

    Raises:
        DataError: parts hold images that cannot be used; all other parts are done, and stay.
        ConfigError, MissingExtraError: as ``run_on_ray`` says.
        StoreError, OutputError: as in ``annotate``.
    """
    _require_positive(batch_size, workers)
    dataset, teacher = load()
    out = Path(out)
    if (store := _finished(out, dataset, teacher)) is not None:
        return store
    writer = _writer(dataset, teacher, out, batch_size)
    waiting = sorted(set(range(writer.num_parts)) - writer.done_parts())
    reasons = []
    outcomes = run_on_ray(waiting, partial(_prepare, load, out, batch_size, workers), cluster)
    with _bar(progress, "parts") as bar, closing(outcomes) as parts:
        task = bar.add_task("annotate", total=writer.num_parts, completed=writer.num_parts - len(waiting))
        for part, outcome in parts:
            bar.advance(task)
            if isinstance(outcome, Failure):
                reasons.append((part, outcome.reason))
    if reasons:
        raise DataError(
            f"{out}: {len(reasons)} of {writer.num_parts} parts cannot be annotated, the others are done: "
            + "; ".join(f"part {part}: {reason}" for part, reason in sorted(reasons)[:_REASONS_SHOWN])
            + "; mend the images, or leave them out of the data set, and run the same command again"
        )
    writer.finish()
    return EmbeddingStore.open(out)


def _prepare(
    load: Callable[[], tuple[DetectionDataset, Teacher]], out: Path, batch_size: int, workers: int
) -> Callable[[int], None]:
    """Make what embeds a part in a worker; the writer refuses data or a teacher that are not those of the job."""
    dataset, teacher = load()
    return partial(_write_part, dataset, teacher, _writer(dataset, teacher, out, batch_size), batch_size, workers)


def _write_part(
    dataset: DetectionDataset, teacher: Teacher, writer: StoreWriter, batch_size: int, workers: int, part: int
) -> None:
    rows = writer.part_rows(part)
    chosen = np.zeros(dataset.num_boxes, np.bool_)
    chosen[rows.start : rows.stop] = True
    with closing(_crops(dataset, chosen, teacher, workers)) as crops:
        batches = [teacher.embed(batch) for batch in iter(lambda: list(islice(crops, batch_size)), [])]
    writer.write_part(part, dataset.annotation_id[rows.start : rows.stop], np.concatenate(batches))


def _require_positive(batch_size: int, workers: int) -> None:
    for setting, value in (("batch_size", batch_size), ("workers", workers)):
        if value < 1:
            raise ConfigError(f"{setting} is {value}; it must be at least 1")


def _finished(out: Path, dataset: DetectionDataset, teacher: Teacher) -> EmbeddingStore | None:
    """Return the store if it is already there and fits."""
    if not out.exists():
        return None
    store = EmbeddingStore.open(out)
    store.check(dataset, teacher.fingerprint)
    discard_parts(out)  # a run that was killed at the very end leaves them
    return store


def _writer(dataset: DetectionDataset, teacher: Teacher, out: Path, batch_size: int) -> StoreWriter:
    return StoreWriter(
        out,
        dim=teacher.dim,
        num_boxes=dataset.num_boxes,
        teacher_name=teacher.name,
        teacher_fingerprint=teacher.fingerprint,
        data_fingerprint=dataset.fingerprint(),
        licence=dataset.licence,
        provenance=_provenance(dataset, teacher, batch_size),
        rows_per_part=max(1, _ROWS_PER_PART // batch_size) * batch_size,  # a part ends where a batch ends
    )


def _provenance(dataset: DetectionDataset, teacher: Teacher, batch_size: int) -> dict[str, str]:
    """What the store should tell about its making, without clocks, so that equal work gives equal bytes."""
    crop = f"{teacher.input_height}x{teacher.input_width}" if teacher.input_height else "as cut"
    return {"dataset": dataset.name, "source": dataset.source, "crop_size": crop, "batch_size": str(batch_size)}


def _crops(dataset: DetectionDataset, pending: BoolArray, teacher: Teacher, workers: int) -> Generator[Image, None, None]:
    """Pending crops in order, decoded by threads that stay a bounded number of images ahead."""
    offset = 0
    jobs: deque[tuple[AnnotatedImage, BoolArray]] = deque()
    for image in dataset.images:
        wanted = pending[offset : offset + len(image.annotation_id)]
        offset += len(wanted)
        if wanted.any():
            jobs.append((image, wanted))
    waiting: deque[Future[list[Image]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            while jobs or waiting:
                while jobs and len(waiting) < _LOOK_AHEAD * workers:
                    image, wanted = jobs.popleft()
                    waiting.append(pool.submit(_cut, image, wanted, teacher.input_height, teacher.input_width))
                yield from waiting.popleft().result()
        finally:  # an error in one image must not wait for the others
            pool.shutdown(wait=False, cancel_futures=True)


def _cut(image: AnnotatedImage, wanted: BoolArray, height: int, width: int) -> list[Image]:
    pixels = load_image(image.path)
    if pixels.shape[:2] != (image.height, image.width):
        raise DataError(
            f"{image.path}: is {pixels.shape[1]}x{pixels.shape[0]} pixels but image {image.image_id} is said to be "
            f"{image.width}x{image.height}; its boxes would fall elsewhere, so mend the annotations"
        )
    crops = crop_boxes(pixels, image.xyxy[wanted])
    if height == 0:
        return [crop.copy() for crop in crops]  # a view would keep the whole image in memory
    return list(resize_crops(crops, height, width))


def _bar(visible: bool, unit: str = "boxes") -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not visible,
    )
