"""What a student of D_s numbers learns of a teacher's D_t."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tdtrack.errors import ShapeError

__all__ = ["TeacherTarget", "principal_directions"]


class TeacherTarget(nn.Module):
    """The teacher's embedding about a mean, in D_s directions. Saved with the model; not used when it detects.

    Attributes:
        mean: ``(D_t,)`` float32.
        directions: ``(D_t, D_s)`` float32, independent columns; orthonormal ones unless :meth:`mapped` made them.
    """

    mean: Tensor
    directions: Tensor

    def __init__(self, mean: Tensor, directions: Tensor) -> None:
        """Keep mean and directions.

        Args:
            mean: ``(D_t,)``.
            directions: ``(D_t, D_s)``.
        """
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("directions", directions)

    def forward(self, teacher: Tensor) -> Tensor:
        """Project teacher embeddings.

        Args:
            teacher: ``(N, D_t)`` of any float type.

        Returns:
            ``(N, D_s)`` float32, not normalised.

        Raises:
            ShapeError: the embeddings have another width.
        """
        if teacher.shape[1] != len(self.mean):
            raise ShapeError(
                f"teacher embeddings have {teacher.shape[1]} numbers, the model learned from a teacher with {len(self.mean)}; "
                "annotate with that teacher"
            )
        return (teacher.float() - self.mean) @ self.directions

    def back(self, student: Tensor) -> Tensor:
        """Return the ``(N, D_t)`` teacher embeddings that ``(N, D_s)`` projections stand for, nothing beside the directions."""
        coordinates = torch.linalg.solve(self.directions.T @ self.directions, student.T).T
        embedding: Tensor = self.mean + coordinates @ self.directions.T
        return embedding

    def mapped(self, offset: Tensor, matrix: Tensor) -> TeacherTarget:
        """Return the target of a student whose embeddings ``e`` become ``(e - offset) @ matrix``.

        Args:
            offset: ``(D_s,)``.
            matrix: ``(D_s, D_s)``, invertible.
        """
        directions = self.directions.double()
        mean = self.mean.double() + offset.double() @ torch.linalg.pinv(directions)
        return TeacherTarget(mean.float(), (directions @ matrix.double()).float())


def principal_directions(covariance: Tensor, count: int) -> Tensor:
    """Find the directions in which embeddings vary most.

    Args:
        covariance: ``(D_t, D_t)`` float64, about the mean.
        count: D_s, at most D_t.

    Returns:
        ``(D_t, D_s)`` float64, orthonormal columns, most variance first; the largest number of each is positive, so that the
        sign does not depend on the solver.

    Source:
        Principal component analysis; not in the paper, which keeps the first D_s numbers (Sec. 3.4).
    """
    _, vectors = torch.linalg.eigh(covariance)
    directions = vectors.flip(1)[:, :count]
    largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
    signed: Tensor = directions * torch.where(largest < 0, -1.0, 1.0)
    return signed
