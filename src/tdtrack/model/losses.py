"""The losses of Sec. 3.4: what each head learns from, and Eq. 2 that adds them up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import huber_loss
from torchvision.ops import sigmoid_focal_loss

from tdtrack.config import AssignConfig, LossConfig
from tdtrack.errors import ShapeError
from tdtrack.model.assign import IGNORED, assign_anchors
from tdtrack.model.boxcode import encode_boxes
from tdtrack.model.identity import UNKNOWN

if TYPE_CHECKING:
    from tdtrack.model.identity import IdentityHead
    from tdtrack.model.joint import JointModel, Predictions

__all__ = [
    "BatchTotals",
    "Losses",
    "Targets",
    "assign_batch",
    "box_loss",
    "classification_loss",
    "compute_losses",
    "embedding_loss",
]


@dataclass(eq=False)
class Targets:
    """What a batch should have predicted; one entry per image in every list.

    Attributes:
        boxes: ``(G_i, 4)`` float xyxy in input pixels; an image may have none.
        class_id: ``(G_i,)`` int64 in ``[0, K)``.
        ignore: ``(G_i,)`` bool, True for regions that are neither object nor background.
        embedding: ``(G_i, D_t)`` teacher embeddings; rows of ignore regions are not read.
        identity: ``(G_i,)`` int64, class of each box in an ``IdentityHead``; only that reads it.
    """

    boxes: list[Tensor]
    class_id: list[Tensor]
    ignore: list[Tensor]
    embedding: list[Tensor]
    identity: list[Tensor] | None = None

    def __post_init__(self) -> None:
        """Check that the rows pair up.

        Raises:
            ShapeError: names the image and the lengths that differ.
        """
        for image, rows in enumerate(zip(self.boxes, self.class_id, self.ignore, self.embedding, strict=True)):
            lengths = [len(row) for row in rows]
            if len(set(lengths)) > 1 or rows[0].shape[1:] != (4,):
                raise ShapeError(
                    f"targets of image {image} of the batch do not pair up: boxes {tuple(rows[0].shape)}, "
                    f"then {lengths[1]} classes, {lengths[2]} ignore flags and {lengths[3]} embeddings"
                )

    def __len__(self) -> int:
        """Return the number of images B."""
        return len(self.boxes)

    def to(self, device: torch.device | str) -> Targets:
        """Return the same targets on another device."""
        columns = (self.boxes, self.class_id, self.ignore, self.embedding, self.identity)
        return Targets(*(None if rows is None else [row.to(device) for row in rows] for rows in columns))  # type: ignore[arg-type]


@dataclass(eq=False)
class BatchTotals:
    """What the losses of a batch are divided by.

    A batch may be spread over processes and micro-batches: divided by the totals of the whole batch, the losses of its parts
    add up to those of the batch, and so do the gradients.

    Attributes:
        images: images of the batch.
        positives: anchors that were assigned a box.
        named: positives whose identity is known; 0 where nobody asks.
    """

    images: Tensor
    positives: Tensor
    named: Tensor

    @classmethod
    def of(cls, assignment: Tensor, targets: Targets) -> BatchTotals:
        """Count in one part of a batch.

        Args:
            assignment: ``(B, N)``, what ``assign_batch`` gave.
            targets: of its B images.
        """
        image, anchor = torch.nonzero(assignment >= 0, as_tuple=True)
        named = assignment.new_zeros(())
        if targets.identity is not None:
            row = _row_in_batch(assignment[image, anchor], image, targets)
            named = (torch.cat(targets.identity)[row] != UNKNOWN).sum()
        return cls(assignment.new_tensor(len(targets)), assignment.new_tensor(len(image)), named)


@dataclass(eq=False)
class Losses:
    """The losses of one batch, or what one part of it adds to them, float32 scalars.

    Attributes:
        total: Eq. 2, the weighted sum; call ``backward`` on this.
        classification: before its weight.
        box: before its weight.
        embedding: before its weight.
        positives: anchors that were assigned a box.
    """

    total: Tensor
    classification: Tensor
    box: Tensor
    embedding: Tensor
    positives: int


def classification_loss(logits: Tensor, target: Tensor, valid: Tensor, alpha: float, gamma: float) -> Tensor:
    """Sum of the focal loss over anchors and classes.

    Args:
        logits: ``(..., K)`` before the sigmoid.
        target: ``(..., K)`` 1 where the anchor holds an object of the class, else 0.
        valid: ``(...)`` bool, False for anchors that count for nothing.
        alpha: weight of ones; zeros weigh ``1 - alpha``.
        gamma: focusing exponent; 0 gives weighted cross-entropy.

    Returns:
        Scalar, not yet divided by the number of positives.

    Source:
        Sec. 3.4, 4.2.
    """
    loss = sigmoid_focal_loss(logits, target, alpha=alpha, gamma=gamma, reduction="none")
    summed: Tensor = (loss * valid[..., None]).sum()
    return summed


def box_loss(codes: Tensor, target: Tensor, delta: float) -> Tensor:
    """Huber loss, averaged over the four coordinates and summed over anchors.

    Args:
        codes: ``(P, 4)`` predicted at positive anchors.
        target: ``(P, 4)`` code of each anchor's box.
        delta: where the loss turns from quadratic to linear.

    Returns:
        Scalar, not yet divided by the number of positives; zero, still differentiable, when ``P`` is 0.

    Source:
        Sec. 3.4, 4.2; the mean over coordinates from TensorFlow Model Garden.
    """
    return huber_loss(codes, target, reduction="none", delta=delta).sum() / 4


def embedding_loss(
    student: Tensor, teacher: Tensor, image: Tensor, num_images: int, total_images: Tensor | None = None
) -> Tensor:
    """Squared distance from student to teacher embeddings.

    Args:
        student: ``(P, D_s)`` predictions at positive anchors, before L2 normalisation.
        teacher: ``(P, D_t)`` embedding of each anchor's box, ``D_t >= D_s``; its first D_s numbers are the target.
        image: ``(P,)`` int64 in ``[0, B)``, the image each anchor belongs to.
        num_images: ``B``; an image without positive anchors counts as zero.
        total_images: images of the batch that these are a part of; ``None`` where they are all.

    Returns:
        Scalar; zero, still differentiable, when ``P`` is 0.

    Raises:
        ShapeError: the rows do not pair up, or the teacher is narrower than the student.

    Source:
        Eq. 1: summed over dimensions, averaged over an image's anchors. The mean over images is our reading: the paper
        defines one image only.
    """
    if len(student) != len(teacher):  # one teacher row would broadcast in silence
        raise ShapeError(f"{len(student)} anchors but {len(teacher)} teacher embeddings")
    width = student.shape[1]
    if teacher.shape[1] < width:
        raise ShapeError(
            f"student embeddings have {width} dimensions, the teacher only {teacher.shape[1]}; "
            f"set model.embedding_dim to {teacher.shape[1]} or less, or annotate with a wider teacher"
        )
    per_anchor = (student - teacher[:, :width]).square().sum(dim=1)
    totals = per_anchor.new_zeros(num_images).index_add(0, image, per_anchor)
    positives = torch.bincount(image, minlength=num_images).clamp(min=1)
    return (totals / positives).sum() / (num_images if total_images is None else total_images)


@torch.no_grad()
def assign_batch(anchors: Tensor, targets: Targets, config: AssignConfig) -> Tensor:
    """Assign anchors to boxes in every image: ``(B, N)`` int64 as ``assign_anchors`` gives it.

    Args:
        anchors: ``(N, 4)`` xyxy in input pixels.
        targets: of B images, on the same device.
        config: which anchor learns which box.
    """
    return torch.stack([assign_anchors(anchors, xyxy, ignore, config) for xyxy, ignore in zip(targets.boxes, targets.ignore)])


def compute_losses(
    model: JointModel,
    predictions: Predictions,
    targets: Targets,
    assign: AssignConfig,
    loss: LossConfig,
    identity_head: IdentityHead | None = None,
    *,
    assignment: Tensor | None = None,
    totals: BatchTotals | None = None,
) -> Losses:
    """Assign anchors to boxes and compare predictions with targets.

    Args:
        model: what made the predictions; its last embedding layer runs at assigned anchors only.
        predictions: of a batch of B images; any float type, the losses are computed in float32.
        targets: of the same images, on the same device.
        assign: which anchor learns which box.
        loss: constants and weights.
        identity_head: what embeddings learn from instead of the teacher (Tab. 4's counterpart); ``None`` is the paper's method.
        assignment: what ``assign_batch`` gave for these targets; ``None`` makes it here.
        totals: of the batch that these images are a part of; ``None`` where they are all.

    Returns:
        Finite losses, differentiable in every parameter, also when no image has a box.

    Raises:
        ShapeError: predictions and targets differ in the number of images, the teacher is narrower than the student, or there
            is an identity head but no identities.

    Source:
        Sec. 3.4, Eq. 1 and 2; classification and box losses are divided by (positives in the batch + 1) as in
        TensorFlow Model Garden.
    """
    logits = predictions.class_logits.float()
    if len(targets) != len(logits):
        raise ShapeError(f"predictions of {len(logits)} images but targets of {len(targets)}")
    with torch.no_grad():
        if assignment is None:
            assignment = assign_batch(predictions.anchors, targets, assign)
        image, anchor = torch.nonzero(assignment >= 0, as_tuple=True)
        row = _row_in_batch(assignment[image, anchor], image, targets)
        classes = torch.zeros_like(logits)
        classes[image, anchor, torch.cat(targets.class_id)[row]] = 1
        codes = encode_boxes(torch.cat(targets.boxes)[row].float(), predictions.anchors[anchor])
    normaliser = (len(row) if totals is None else totals.positives) + 1
    classification = (
        classification_loss(logits, classes, assignment != IGNORED, loss.focal_alpha, loss.focal_gamma) / normaliser
    )
    box = box_loss(predictions.box_codes[image, anchor].float(), codes, loss.huber_delta) / normaliser
    student = model.embed_at(predictions, image, anchor).float()
    if identity_head is None:
        images = None if totals is None else totals.images
        embedding = embedding_loss(student, _teacher_rows(targets, row), image, len(targets), images)
    elif targets.identity is None:
        raise ShapeError("an identity head learns from identities, but the targets have none")
    else:
        embedding = identity_head(student, torch.cat(targets.identity)[row], None if totals is None else totals.named)
    total = loss.class_weight * classification + loss.box_weight * box + loss.embedding_weight * embedding
    return Losses(total, classification, box, embedding, len(row))


def _row_in_batch(box: Tensor, image: Tensor, targets: Targets) -> Tensor:
    """Turn each anchor's box index within its image into one within the whole batch."""
    counts = torch.tensor([len(xyxy) for xyxy in targets.boxes], device=box.device)
    return box + (counts.cumsum(0) - counts)[image]


def _teacher_rows(targets: Targets, row: Tensor) -> Tensor:
    """Return the ``(P, D_t)`` float32 teacher embeddings of boxes counted over the batch."""
    return torch.cat(targets.embedding)[row].float()
