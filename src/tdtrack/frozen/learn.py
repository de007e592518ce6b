"""Learning the head from cached features: what the main path learns at anchors, on boxes, in minutes."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load, save
from torch import Tensor
from torch.nn.functional import normalize

from tdtrack.config import HeadConfig
from tdtrack.errors import DataError, StoreError
from tdtrack.files import atomic_write
from tdtrack.frozen.cache import FeatureCache
from tdtrack.frozen.head import AppearanceHead
from tdtrack.frozen.pooling import Reading
from tdtrack.model import principal_directions
from tdtrack.teacher.crops import unit_rows
from tdtrack.teacher.reid import rank_gallery
from tdtrack.teacher.reid_losses import contrastive_loss
from tdtrack.types import FloatArray

__all__ = [
    "HeadReport",
    "embed_cache",
    "evaluate_head",
    "learn_head",
    "raw_features",
    "relation_loss",
    "retrieval",
]

_CHECKPOINT = "head-checkpoint.safetensors"
_STATE = "state"
_ROWS_AT_ONCE = 4096


def learn_head(
    cache: FeatureCache, teacher: FloatArray, readings: Sequence[Reading], config: HeadConfig, folder: Path
) -> AppearanceHead:
    """Learn the head; a second call with the same arguments goes on after the last epoch, to the same weights.

    Args:
        cache: what was read.
        teacher: ``(boxes, D_t)`` unit embeddings, a row per box of the data set.
        readings: what was read where.
        config: how to learn.
        folder: for the checkpoint.

    Returns:
        The head, in evaluation mode.

    Raises:
        StoreError: the teacher has fewer numbers than the head is to give.
        DataError: there are fewer views of boxes than one batch needs.

    Source:
        Eq. 1's distance between unit vectors, plus the relations between a batch's boxes (Park et al., Relational Knowledge
        Distillation, 2019) and the contrast between views of one box and all others (Khosla et al., Supervised Contrastive
        Learning, 2020).
    """
    if teacher.shape[1] < config.embedding_dim:
        raise StoreError(
            f"the teacher gives {teacher.shape[1]} numbers, fewer than head.embedding_dim {config.embedding_dim}; lower that"
        )
    if len(cache) < 2:
        raise DataError(f"only {len(cache)} view of a box was read; give more boxes")
    whole = normalize(torch.from_numpy(np.asarray(teacher, np.float32)), dim=1)
    torch.manual_seed(config.seed)
    head = AppearanceHead(readings, _directions(whole[np.unique(cache.box)], config.embedding_dim))
    target = head.target(whole)
    optimizer = torch.optim.AdamW(head.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    size = min(config.batch_size, len(cache))
    per_epoch = len(cache) // size
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=config.epochs * per_epoch + 1, pct_start=0.1
    )
    checkpoint = folder / _CHECKPOINT
    taught_by = sha256(whole.numpy().tobytes()).hexdigest()
    key = json.dumps([asdict(config), cache.key, taught_by, [asdict(reading) for reading in readings]])
    begin = _resume(checkpoint, key, head, optimizer, schedule)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("epochs"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("learn the head", total=config.epochs, completed=begin)
        for epoch in range(begin, config.epochs):
            torch.manual_seed(config.seed * 1_000_003 + epoch)
            head.train()
            order = torch.randperm(len(cache)).numpy()
            for step in range(per_epoch):
                rows = np.sort(order[step * size : (step + 1) * size])  # in the order of the file
                box = torch.from_numpy(cache.box[rows])
                loss = _loss(head(_rows_of(cache, rows)), target[box], whole[box], box, config)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
            _keep(checkpoint, key, epoch + 1, head, optimizer, schedule)
            bar.advance(task)
    return head.eval()


def _directions(whole: Tensor, dim: int) -> Tensor:
    """Return the ``(D_t, D)`` directions in which unit embeddings lie, about zero, so that cosines stay the teacher's."""
    rows = whole.double()
    return principal_directions(rows.T @ rows / len(rows), dim).float()


def _loss(embedded: Tensor, target: Tensor, whole: Tensor, box: Tensor, config: HeadConfig) -> Tensor:
    unit = normalize(embedded, dim=1)
    distance = (1 - (unit * target).sum(dim=1)).mean()
    relation = relation_loss(unit, whole)
    contrast = contrastive_loss(unit, box, config.temperature)
    return distance + config.relation_weight * relation + config.contrast_weight * contrast


def relation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference between the cosines of all pairs.

    Args:
        student: ``(n, D)`` of unit length.
        teacher: ``(n, D_t)`` of unit length.
    """
    return (student @ student.T - teacher @ teacher.T).square().mean()


def _rows_of(cache: FeatureCache, rows: Any) -> list[Tensor]:
    return [torch.from_numpy(np.asarray(read[rows])) for read in cache.reads]


def _keep(path: Path, key: str, epoch: int, head: AppearanceHead, optimizer: Any, schedule: Any) -> None:
    """Write what the next epoch needs."""
    tensors = {f"head.{name}": value.contiguous() for name, value in head.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value.contiguous() for name, value in state.items()}
    done = {"key": key, "epoch": str(epoch), "steps": str(schedule.last_epoch)}
    with atomic_write(path, "wb") as file:
        file.write(save(tensors, {_STATE: json.dumps(done)}))


def _resume(path: Path, key: str, head: AppearanceHead, optimizer: Any, schedule: Any) -> int:
    """Take up an earlier run of the same settings; returns its finished epochs."""
    if not path.is_file():
        return 0
    content = path.read_bytes()
    done = json.loads(json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"][_STATE])
    if done["key"] != key:
        return 0
    tensors = load(content)
    head.load_state_dict({name[5:]: value for name, value in tensors.items() if name.startswith("head.")})
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, field = name.split(".")
            states.setdefault(int(index), {})[field] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no iteration was done between these steps
        for _ in range(int(done["steps"])):
            schedule.step()
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    return int(done["epoch"])


@dataclass(frozen=True)
class HeadReport:
    """How good a head is on boxes that it did not learn from.

    Attributes:
        boxes: looked at.
        agreement: mean cosine between head and teacher, over the images as they are tracked.
        rank1: share of boxes whose nearest other view, among all views of all boxes, is a view of the same box.
        mean_ap: mean average precision of the same search.
        raw_rank1: the same for the mean of the detector's features, which nobody taught.
        raw_mean_ap: the same.
    """

    boxes: int
    agreement: float
    rank1: float
    mean_ap: float
    raw_rank1: float
    raw_mean_ap: float

    def lines(self) -> list[str]:
        """Return the report for people."""
        return [
            f"agreement with the teacher   {self.agreement:.3f} (mean cosine over {self.boxes} boxes held out)",
            f"finding the same box again   rank-1 {self.rank1:.1%}, mAP {self.mean_ap:.1%}",
            f"  untaught features          rank-1 {self.raw_rank1:.1%}, mAP {self.raw_mean_ap:.1%}",
        ]


def evaluate_head(head: AppearanceHead, cache: FeatureCache, teacher: FloatArray) -> HeadReport:
    """Measure a head on boxes that it did not learn from.

    Args:
        head: in evaluation mode.
        cache: of these boxes.
        teacher: ``(boxes, D_t)`` their unit embeddings.
    """
    embedded = embed_cache(head, cache)
    raw = raw_features(cache)
    first = cache.view == 0
    target = head.target(torch.from_numpy(np.asarray(teacher, np.float32)[cache.box[first]])).numpy()
    agreement = float((embedded[first] * target).sum(axis=1).mean())
    scores = [retrieval(values, cache.box, first, ~first) for values in (embedded, raw)]
    return HeadReport(int(first.sum()), agreement, *scores[0], *scores[1])


def embed_cache(head: AppearanceHead, cache: FeatureCache) -> FloatArray:
    """Return ``(M, D)`` unit embeddings of all rows of a cache."""
    found = []
    with torch.inference_mode():
        for start in range(0, len(cache), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            found.append(normalize(head([torch.from_numpy(np.array(read[rows])) for read in cache.reads]), dim=1).numpy())
    return np.concatenate(found)


def raw_features(cache: FeatureCache) -> FloatArray:
    """Return ``(M, C)``: each map's mean over the box, of unit length, side by side; what needs no teaching."""
    return np.concatenate([unit_rows(np.asarray(read, np.float32).mean(axis=1)) for read in cache.reads], axis=1)


def retrieval(embedded: FloatArray, label: Any, query: Any, gallery: Any) -> tuple[float, float]:
    """Search each query among the gallery.

    Args:
        embedded: ``(M, D)``.
        label: ``(M,)`` what counts as the same.
        query: ``(M,)`` bool.
        gallery: ``(M,)`` bool, none of them a query.

    Returns:
        Rank-1 and mean average precision over the queries that have a match, fractions.
    """
    unit = unit_rows(embedded)
    one, other = np.zeros(query.sum(), np.int64), np.ones(gallery.sum(), np.int64)  # two cameras, so nothing is left out
    rank1, precision = rank_gallery(unit[query], label[query], one, unit[gallery], label[gallery], other)
    answered = ~np.isnan(rank1)
    return (float(rank1[answered].mean()), float(precision[answered].mean())) if answered.any() else (0.0, 0.0)
