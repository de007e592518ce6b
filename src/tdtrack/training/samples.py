"""From annotated images and their teacher embeddings to batches of tensors."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tdtrack.config import DataSource, TrainConfig
from tdtrack.data import load_source
from tdtrack.data.dataset import AnnotatedImage, DetectionDataset
from tdtrack.data.identities import read_identities
from tdtrack.data.images import load_image
from tdtrack.data.store import EmbeddingStore
from tdtrack.errors import ConfigError, DataError, StoreError, TdtrackError
from tdtrack.model import UNKNOWN, Targets, TeacherTarget
from tdtrack.training.augment import change_light, choose_placement, cut_boxes, cut_window, pad_window, place_boxes
from tdtrack.training.embeddings import learned_embeddings
from tdtrack.training.order import PositionBatches, sample_at, sample_generator
from tdtrack.training.signals import ignore_interrupts
from tdtrack.types import ANY_CLASS, BoolArray, FloatArray, Image, IntArray

__all__ = ["Batch", "LabelledSet", "Sample", "TrainingSamples", "keep_classes", "load_labelled_sets", "training_batches"]

CACHE_BYTES = 1_500_000_000
"""Decoded images kept in memory, over all loader processes: decoding JPEGs must not starve a small machine."""

ROWS_AT_ONCE = 8192
"""Embeddings looked up in one step: all at once, in full width and precision, could fill the memory."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledSet:
    """A data set in the model's classes, and the embeddings of its boxes.

    Attributes:
        dataset: boxes of the model's classes only, ``class_id`` counted in the model's order.
        store: embeddings by annotation id; ``None`` where there are none (validation only).
        left_out: number of boxes of other classes, which count as background.
        fingerprint: of the data set as it was read, all classes.
        identities: who is in which box, by annotation id; empty where the source names nobody.
    """

    dataset: DetectionDataset
    store: EmbeddingStore | None
    left_out: int
    fingerprint: str
    identities: Mapping[int, int]

    @property
    def counted(self) -> BoolArray:
        """``(G,)`` in order of image and box: a box to learn from, not an ignore region."""
        return ~np.concatenate([image.ignore for image in self.dataset.images])

    def teacher_rows(self) -> Iterator[FloatArray]:
        """Yield the teacher's embeddings of the boxes that count, in order, as ``(n, D_t)`` float32 of bounded size.

        Raises:
            ConfigError: the set has no store.
        """
        if self.store is None:
            raise ConfigError(f"{self.dataset.name} has no embedding store; make one with tdtrack annotate")
        ids = self.dataset.annotation_id[self.counted]
        for start in range(0, len(ids), ROWS_AT_ONCE):
            yield self.store.lookup(ids[start : start + ROWS_AT_ONCE])


def load_labelled_sets(
    sources: Sequence[DataSource], classes: tuple[str, ...], embedding_dim: int, *, need_stores: bool
) -> list[LabelledSet]:
    """Read data sets and embedding stores and check that they belong together.

    Args:
        sources: what to read.
        classes: the model's class names.
        embedding_dim: D_s.
        need_stores: refuse a source without an embedding store.

    Returns:
        One set per source, in the same order.

    Raises:
        DataError: a data set cannot be read, is empty, or shares no class with the model, or an identities file no box with it.
        StoreError: a store does not fit its data set, is narrower than D_s, or two stores are of different teachers.
        ConfigError: a source has no store where one is needed.
    """
    sets = [_load_labelled_set(source, classes, embedding_dim, need_store=need_stores) for source in sources]
    stores = [(source, item.store) for source, item in zip(sources, sets) if item.store is not None]
    for source, store in stores[1:]:
        first_source, first = stores[0]
        if store.teacher_fingerprint != first.teacher_fingerprint:
            raise StoreError(
                f"{source.store} was made by teacher {store.teacher_name} ({store.teacher_fingerprint[:12]}) but "
                f"{first_source.store} by {first.teacher_name} ({first.teacher_fingerprint[:12]}); "
                "annotate all data sets with one teacher"
            )
    return sets


def _load_labelled_set(source: DataSource, classes: tuple[str, ...], embedding_dim: int, *, need_store: bool) -> LabelledSet:
    dataset = load_source(source)
    store = None
    if source.store:
        store = EmbeddingStore.open(source.store)
        store.check(dataset)
        if store.dim < embedding_dim:
            raise StoreError(
                f"{source.store} holds {store.dim} numbers per box, fewer than model.embedding_dim {embedding_dim}; "
                f"set model.embedding_dim to {store.dim} or less, or annotate with a wider teacher"
            )
    elif need_store:
        raise ConfigError(
            f"the training source {source.annotations} names no store; make one with tdtrack annotate and set its store"
        )
    kept = keep_classes(rename_classes(dataset, source.rename), classes)
    identities = read_identities(source.identities) if source.identities else {}
    if identities and identities.keys().isdisjoint(dataset.annotation_id.tolist()):
        raise DataError(
            f"{source.identities}: none of its {len(identities)} annotations is a box of {source.annotations}; "
            "set identities to the file that was written for this data set"
        )
    return LabelledSet(kept, store, dataset.num_boxes - kept.num_boxes, dataset.fingerprint(), identities)


def rename_classes(dataset: DetectionDataset, names: Mapping[str, str]) -> DetectionDataset:
    """Return the data set with other class names; several may become one.

    Args:
        dataset: any data set.
        names: new name by old name; classes that are not in it keep theirs.

    Raises:
        DataError: the data set has no class of one of the old names.
    """
    if unknown := [name for name in names if name not in dataset.classes]:
        raise DataError(
            f"{dataset.name} has the classes {', '.join(dataset.classes)}, but {unknown[0]} is to be renamed; mend rename"
        )
    return replace(dataset, classes=tuple(names.get(name, name) for name in dataset.classes))


def keep_classes(dataset: DetectionDataset, classes: tuple[str, ...]) -> DetectionDataset:
    """Return the data set in other classes: matched by name, boxes of classes not among them left out.

    Ignore regions of no class stay: what they hold may be of any.

    Args:
        dataset: any data set.
        classes: class names, in the order of the wanted class ids.

    Raises:
        DataError: the data set has none of the classes.
    """
    if dataset.classes == classes:
        return dataset
    if not set(dataset.classes) & set(classes):
        raise DataError(
            f"{dataset.name} has the classes {', '.join(dataset.classes)} but the model learns {', '.join(classes)}; "
            "set model.classes to names that the data set has"
        )
    new_id = np.array([classes.index(name) if name in classes else -1 for name in dataset.classes], np.int64)
    return replace(dataset, classes=classes, images=tuple(_relabel(image, new_id) for image in dataset.images))


def _relabel(image: AnnotatedImage, new_id: IntArray) -> AnnotatedImage:
    everywhere = image.class_id == ANY_CLASS
    class_id = np.where(everywhere, ANY_CLASS, new_id[image.class_id])
    kept = everywhere | (class_id >= 0)
    return replace(
        image,
        annotation_id=image.annotation_id[kept],
        xyxy=image.xyxy[kept],
        class_id=class_id[kept],
        ignore=image.ignore[kept],
    )


class Sample(NamedTuple):
    """One augmented image.

    Attributes:
        image: ``(3, H, W)`` uint8 RGB at the input size.
        xyxy: ``(G, 4)`` float32, pixels of the input.
        class_id: ``(G,)`` int64.
        ignore: ``(G,)`` bool.
        embedding: ``(G, D_s)`` float16, what is learned of the teacher's for the whole, upright, unaugmented box; zeros
            where ignored.
        identity: ``(G,)`` int64 from 0 on over all training sets, or ``UNKNOWN``.
    """

    image: NDArray[np.uint8]
    xyxy: FloatArray
    class_id: IntArray
    ignore: BoolArray
    embedding: NDArray[np.float16]
    identity: IntArray


class Batch(NamedTuple):
    """Samples of one iteration, boxes of all images in one tensor (few tensors travel between processes fast).

    Attributes:
        images: ``(B, 3, H, W)`` uint8.
        counts: ``(B,)`` int64, boxes per image.
        xyxy: ``(G, 4)`` float32.
        class_id: ``(G,)`` int64.
        ignore: ``(G,)`` bool.
        embedding: ``(G, D_s)`` float16.
        identity: ``(G,)`` int64.
    """

    images: Tensor
    counts: Tensor
    xyxy: Tensor
    class_id: Tensor
    ignore: Tensor
    embedding: Tensor
    identity: Tensor

    def to(self, device: torch.device) -> tuple[Tensor, Targets]:
        """Return images and targets on a device."""
        counts = self.counts.tolist()
        columns = (self.xyxy, self.class_id, self.ignore, self.embedding, self.identity)
        rows = [list(torch.split(column.to(device, non_blocking=True), counts)) for column in columns]
        return self.images.to(device, non_blocking=True), Targets(*rows)

    def split(self, parts: int) -> list[Batch]:
        """Cut into micro-batches of equal numbers of images, in order.

        Args:
            parts: how many; divides the number of images.
        """
        counts = self.counts.chunk(parts)
        boxes = [int(count.sum()) for count in counts]
        columns = (self.xyxy, self.class_id, self.ignore, self.embedding, self.identity)
        rows = zip(*(torch.split(column, boxes) for column in columns))
        return [Batch(images, count, *row) for images, count, row in zip(self.images.chunk(parts), counts, rows)]


class TrainingSamples(Dataset["Sample | TdtrackError"]):
    """Augmented samples by position; the same position always gives the same sample.

    Attributes:
        num_identities: different identities that the sets name.
    """

    def __init__(self, sets: Sequence[LabelledSet], config: TrainConfig, target: TeacherTarget | None = None) -> None:
        """Gather the images of all sets and what is learned of their embeddings.

        Args:
            sets: with stores.
            config: input size, augmentation, seed, D_s, the number of loader processes, and the run folder.
            target: what is learned; ``None`` is the first D_s numbers.

        Raises:
            DataError: no set has a box to learn from.
        """
        self._images = [image for item in sets for image in item.dataset.images]
        self._config = config
        self._embedding = learned_embeddings(sets, config.model.embedding_dim, target, Path(config.out))
        counts = [len(image.annotation_id) for image in self._images]
        self._first_box = np.cumsum([0, *counts])
        if not any((~image.ignore).any() for image in self._images):
            names = ", ".join(item.dataset.name for item in sets)
            raise DataError(
                f"{names}: none of the {len(self._images)} images has a box of {', '.join(config.model.classes)} to learn from"
            )
        self._identity, self.num_identities = _number_identities(sets)
        self._cache: dict[int, Image] = {}
        self._cache_room = CACHE_BYTES // max(1, config.workers)

    def __len__(self) -> int:
        """Return the number of images in an epoch."""
        return len(self._images)

    def __getitem__(self, position: int) -> Sample | TdtrackError:
        """Return the sample at a position of the endless sequence.

        An image that cannot be used comes back as its error: raised in a loader process, it would reach the user as that
        process's traceback.
        """
        try:
            return self._sample(sample_at(position, len(self._images), self._config.seed), position)
        except TdtrackError as error:
            return error

    def _sample(self, index: int, position: int) -> Sample:
        config, record = self._config, self._images[index]
        rng = sample_generator(position, config.seed)
        size = config.input_height, config.input_width
        placement = choose_placement(record.width, record.height, *size, config.augment, rng)
        window = change_light(cut_window(self._decoded(index), placement), config.augment, rng)
        placed = place_boxes(record.xyxy, record.width, record.height, placement)
        xyxy, rows, stump = cut_boxes(placed, placement, config.augment)
        return Sample(
            np.ascontiguousarray(pad_window(window, *size).transpose(2, 0, 1)),
            xyxy,
            record.class_id[rows],
            record.ignore[rows] | stump,
            self._embedding[self._first_box[index] + rows],
            self._identity[self._first_box[index] + rows],
        )

    def mean_embedding(self) -> Tensor:
        """Return the ``(D_s,)`` float32 mean of what is learned, over all boxes that count."""
        counted = np.concatenate([~image.ignore for image in self._images])
        total = np.zeros(self._embedding.shape[1])
        for start in range(0, len(counted), ROWS_AT_ONCE):
            rows = self._embedding[start : start + ROWS_AT_ONCE][counted[start : start + ROWS_AT_ONCE]]
            total += rows.sum(axis=0, dtype=np.float64)
        return torch.from_numpy((total / counted.sum()).astype(np.float32))

    def _decoded(self, index: int) -> Image:
        """Decode an image, or find it among those kept; the first to come stay, since every epoch wants all of them once."""
        if index in self._cache:
            return self._cache[index]
        record = self._images[index]
        image = load_image(record.path)
        if image.shape[:2] != (record.height, record.width):
            raise DataError(
                f"{record.path} is {image.shape[1]}x{image.shape[0]} pixels but its annotations say "
                f"{record.width}x{record.height}; correct the annotations or the file"
            )
        if image.nbytes <= self._cache_room:
            self._cache_room -= image.nbytes
            self._cache[index] = image
        return image


def _number_identities(sets: Sequence[LabelledSet]) -> tuple[IntArray, int]:
    """Number the identities of all sets from 0 on; the same number in two sets is two people.

    Returns:
        The number of every box in order of set, image and box, ``UNKNOWN`` for those without a name and those that are
        ignored; and how many there are.
    """
    numbers: dict[tuple[int, int], int] = {}
    columns = [np.zeros(0, np.int64)]
    for index, item in enumerate(sets):
        for image in item.dataset.images:
            names = [item.identities.get(box, UNKNOWN) for box in image.annotation_id.tolist()]
            known = [UNKNOWN if ignored else name for name, ignored in zip(names, image.ignore)]
            columns.append(
                np.array(
                    [name if name == UNKNOWN else numbers.setdefault((index, name), len(numbers)) for name in known], np.int64
                )
            )
    return np.concatenate(columns), len(numbers)


def _collate(samples: Sequence[Sample | TdtrackError]) -> Batch | TdtrackError:
    good: list[Sample] = []
    for sample in samples:
        if isinstance(sample, TdtrackError):
            return sample
        good.append(sample)
    images, *columns = zip(*good)
    counts = torch.tensor([len(sample.xyxy) for sample in good])
    return Batch(torch.from_numpy(np.stack(images)), counts, *(torch.from_numpy(np.concatenate(column)) for column in columns))


def training_batches(
    samples: TrainingSamples,
    config: TrainConfig,
    first_step: int,
    *,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
) -> Generator[Batch, None, None]:
    """Yield the batches of all iterations that are left.

    Args:
        samples: what to draw from.
        config: batch size, length and number of loader processes; the batches do not depend on the last.
        first_step: first iteration, 0 for a fresh run.
        rank: this device, from 0.
        world_size: number of devices; each gets its share of every batch.
        pin_memory: put batches where a GPU fetches them fast.

    Returns:
        A generator whose loader processes have started when this returns, and have ended when it is closed.

    Raises:
        ConfigError: the devices cannot share a batch evenly, or it cannot be cut into micro-batches.
        DataError: while iterating, an image cannot be read or is not of the annotated size.
    """
    loader = DataLoader(
        samples,
        batch_sampler=PositionBatches(
            config.optimizer.batch_size,
            first_step,
            config.optimizer.steps,
            rank=rank,
            world_size=world_size,
            accumulate=config.optimizer.accumulate,
        ),
        num_workers=config.workers,
        collate_fn=_collate,
        pin_memory=pin_memory,
        worker_init_fn=ignore_interrupts,
        generator=torch.Generator(),  # its own: a loader that starts must not move the model's random numbers
    )
    return _good_batches(iter(loader))


def _good_batches(loaded: Iterator[Batch | TdtrackError]) -> Generator[Batch, None, None]:
    try:
        for batch in loaded:
            if isinstance(batch, TdtrackError):
                raise batch
            yield batch
    finally:
        del loaded  # ends its processes: kept alive by a traceback, it would keep Python from ending
