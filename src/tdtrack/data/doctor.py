"""What is in a data set, what would be left out and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tdtrack.config.data import BoxKind, DataFormat
from tdtrack.data.dataset import DetectionDataset, Problem
from tdtrack.data.formats import FORMATS
from tdtrack.data.load import inspect_dataset
from tdtrack.data.mot import BACKGROUND, MotSequence, find_sequences
from tdtrack.data.store import EmbeddingStore
from tdtrack.errors import DataError

__all__ = ["DoctorReport", "inspect"]

_EXAMPLES = 3
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_FEW_SIZES = 5
_UNUSABLE = "unusable-data-set"


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """What ``inspect`` found.

    Attributes:
        path: what was looked at.
        form: title of the layout, for instance ``"COCO"``, or ``"embedding store"``.
        facts: what is in it, by topic; numbers, texts and lists and dictionaries of them.
        problems: in order of appearance.
    """

    path: str
    form: str
    facts: dict[str, Any]
    problems: tuple[Problem, ...]

    @property
    def usable(self) -> bool:
        """Nothing stands in the way of reading it without ``--skip-bad-boxes``."""
        return not any(problem.dropped for problem in self.problems)

    @property
    def readable(self) -> bool:
        """Something is left when what cannot be used is skipped."""
        return not any(problem.kind == _UNUSABLE for problem in self.problems)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON can hold it; of each kind of problem the count and the first few."""
        kinds = [
            {
                "kind": kind,
                "count": len(group),
                "dropped": sum(problem.dropped for problem in group),
                "examples": [str(problem) for problem in group[:_EXAMPLES]],
            }
            for kind, group in self._by_kind().items()
        ]
        return {"path": self.path, "form": self.form, "usable": self.usable, "facts": self.facts, "problems": kinds}

    def lines(self) -> list[str]:
        """Return the report as plain text."""
        text = [f"{self.path}: {self.form}"]
        width = max((len(topic) for topic in self.facts), default=0)
        for topic, fact in self.facts.items():
            rows = fact if isinstance(fact, list) else [fact]
            for number, row in enumerate(rows):
                text.append(f"  {topic if number == 0 else '':<{width}}  {_plain(row)}")
        if not self.problems:
            return [*text, "no problems found"]
        for kind, group in self._by_kind().items():
            text.append(f"{kind}: {len(group)}, {_fate(group[0])}")
            text.extend(f"  {str(problem).removeprefix(f'{self.path}: ')}" for problem in group[:_EXAMPLES])
            if len(group) > _EXAMPLES:
                text.append(f"  and {len(group) - _EXAMPLES} more")
        if self.readable and not self.usable:
            text.append("reading stops at the first of those left out; fix them or pass --skip-bad-boxes")
        return text

    def _by_kind(self) -> dict[str, list[Problem]]:
        groups: dict[str, list[Problem]] = {}
        for problem in self.problems:
            groups.setdefault(problem.kind, []).append(problem)
        return groups


def inspect(
    path: Path | str,
    images: Path | str = "",
    *,
    format: DataFormat = "auto",
    split: str = "",
    box: BoxKind = "full",
    decode: bool = False,
) -> DoctorReport:
    """Look through a data set or an embedding store.

    Args:
        path: file or folder of a data set of any layout, or an embedding store (``.parquet``).
        images: folder that image names are relative to; as in ``load_dataset``.
        format: the layout, as in ``load_dataset``.
        split: the part, as in ``load_dataset``.
        box: which of a person's boxes, as in ``load_dataset``.
        decode: decode every image, which also finds those that are cut short; the header alone is read otherwise.

    Returns:
        The report. A data set that cannot be read at all has one problem that says why.

    Raises:
        DataError: there is nothing at ``path``.
        ConfigError: the layout has no such split or box, or brings its own images.
        StoreError: the embedding store is damaged.
        MissingExtraError: ``path`` is an embedding store and pyarrow is not installed.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder")
    if path.suffix == ".parquet":
        return DoctorReport(str(path), "embedding store", _store_facts(EmbeddingStore.open(path)), ())
    title, dataset, problems = inspect_dataset(path, images, format=format, split=split, box=box, decode=decode)
    sequences, more = _sequence_facts(path) if title == FORMATS["mot"].title else ({}, [])
    facts = {**sequences, **(_dataset_facts(dataset) if dataset else {})}
    return DoctorReport(str(path), title, facts, (*problems, *more))


def _dataset_facts(dataset: DetectionDataset) -> dict[str, Any]:
    xyxy = np.concatenate([image.xyxy for image in dataset.images])
    class_id = np.concatenate([image.class_id for image in dataset.images])
    ignore = np.concatenate([image.ignore for image in dataset.images])
    per_image = np.array([np.count_nonzero(~image.ignore) for image in dataset.images])
    counts = np.bincount(class_id[~ignore], minlength=len(dataset.classes)).tolist()
    facts: dict[str, Any] = {
        "images": len(dataset),
        "images without boxes": int(np.count_nonzero(per_image == 0)),
        "image sizes": _sizes(dataset),
        "boxes": int(np.count_nonzero(~ignore)),
        "ignore regions": int(np.count_nonzero(ignore)),
        "boxes by class": dict(zip(dataset.classes, counts)),
        "boxes per image": _spread(per_image),
    }
    height = (xyxy[:, 3] - xyxy[:, 1])[~ignore]
    if len(height):
        facts["box height in pixels"] = _spread(height)
    facts["licence"] = dataset.licence or "not stated"
    facts["fingerprint"] = dataset.fingerprint()
    return facts


def _sizes(dataset: DetectionDataset) -> dict[str, Any]:
    sizes = Counter((image.width, image.height) for image in dataset.images)
    if len(sizes) <= _FEW_SIZES:
        return {f"{width}x{height}": count for (width, height), count in sizes.most_common()}
    width, height = zip(*sizes)
    return {"different": len(sizes), "width": f"{min(width)}..{max(width)}", "height": f"{min(height)}..{max(height)}"}


def _spread(values: NDArray[Any]) -> dict[str, float]:
    """Return minimum, quantiles, maximum and mean."""
    numbers = {"min": float(values.min())}
    numbers |= {f"{quantile:.0%}": float(np.quantile(values, quantile)) for quantile in _QUANTILES}
    return numbers | {"max": float(values.max()), "mean": float(values.mean())}


def _sequence_facts(folder: Path) -> tuple[dict[str, Any], list[Problem]]:
    """Describe the sequences, and find what matters to tracking though not to a detection data set."""
    try:
        sequences = find_sequences(folder)
    except DataError:  # the reader has said so
        return {}, []
    problems: list[Problem] = []
    facts = []
    for sequence in sequences:
        info = sequence.info
        fact: dict[str, Any] = {
            "name": info.name,
            "frames": len(sequence.frames),
            "of": info.length,
            "fps": info.frame_rate,
            "size": f"{info.width}x{info.height}",
        }
        if sequence.ground_truth_file.exists():
            fact |= _ground_truth_facts(sequence, problems)
        if sequence.detections_file.exists():
            fact["public detections"] = _rows_or_problem(sequence, problems)
        facts.append(fact)
    return {"sequences": facts}, problems


def _ground_truth_facts(sequence: MotSequence, problems: list[Problem]) -> dict[str, Any]:
    try:
        rows = sequence.ground_truth()
    except DataError:  # the reader has said so
        return {}
    pair = np.stack([rows.frame_index, rows.track_id], axis=1)
    _, first, inverse = np.unique(pair, axis=0, return_index=True, return_inverse=True)
    for row in np.flatnonzero(first[inverse.reshape(-1)] != np.arange(len(rows))).tolist():
        message = (
            f"identity {rows.track_id[row]} has a second box in frame {rows.frame_index[row] + 1}; evaluation will refuse it"
        )
        problems.append(Problem("identity-twice", f"{sequence.ground_truth_file}:{rows.line[row]}", message, dropped=False))
    facts = {"boxes in gt": len(rows), "identities": len(np.unique(rows.track_id))}
    left_out = {
        "on vehicles and occluders, left out": np.isin(rows.class_id, BACKGROUND),
        "in frames without an image": ~np.isin(rows.frame_index, sequence.frame_index),
    }
    return facts | {what: int(mask.sum()) for what, mask in left_out.items() if mask.any()}


def _rows_or_problem(sequence: MotSequence, problems: list[Problem]) -> int:
    try:
        return len(sequence.detections())
    except DataError as error:
        problems.append(Problem("detections-unreadable", str(sequence.folder), str(error), dropped=False))
        return 0


def _store_facts(store: EmbeddingStore) -> dict[str, Any]:
    return {
        "embeddings": len(store),
        "dimensions": store.dim,
        "teacher": store.teacher_name,
        "teacher fingerprint": store.teacher_fingerprint,
        "data fingerprint": store.data_fingerprint,
        "licence": store.licence or "not stated",
        "provenance": store.provenance,
    }


def _fate(problem: Problem) -> str:
    if problem.kind == _UNUSABLE:
        return "nothing can be read as it is"
    return "would be left out" if problem.dropped else "used all the same"


def _plain(fact: Any) -> str:
    if isinstance(fact, dict):
        return ", ".join(f"{key} {_plain(value)}" for key, value in fact.items())
    if isinstance(fact, float):
        return f"{fact:.4g}"
    return str(fact)
