"""Learning embeddings from identities, as FairMOT does: what the paper's method does without, for its counterpart in Tab. 4."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from tdtrack.errors import ShapeError

__all__ = ["UNKNOWN", "IdentityHead"]

UNKNOWN = -1
"""Identity of a box that nobody named."""


class IdentityHead(nn.Module):
    """A linear classifier over all training identities; needed while training and thrown away after."""

    def __init__(self, embedding_dim: int, num_identities: int) -> None:
        """Build the classifier.

        Args:
            embedding_dim: D_s.
            num_identities: people (or objects) named in the training data, at least 2.

        Source:
            FairMOT (Zhang et al., IJCV 2021): embeddings are normalised, then scaled by sqrt(2) * log(identities - 1).
        """
        super().__init__()
        self.scale = math.sqrt(2) * math.log(max(num_identities - 1, 2))
        self.classifier = nn.Linear(embedding_dim, num_identities)

    def forward(self, student: Tensor, identity: Tensor, total: Tensor | None = None) -> Tensor:
        """Cross-entropy of the identities, averaged over the anchors whose identity is known.

        Args:
            student: ``(P, D_s)`` predictions at positive anchors, before L2 normalisation.
            identity: ``(P,)`` int64, identity of each anchor's box, or ``UNKNOWN``.
            total: known identities in the batch that these anchors are a part of; ``None`` where they are all.

        Returns:
            Scalar, computed in float32; zero, still differentiable, when none is known.

        Raises:
            ShapeError: the rows do not pair up.
        """
        if len(student) != len(identity):
            raise ShapeError(f"{len(student)} anchors but {len(identity)} identities")
        known = identity != UNKNOWN
        with torch.autocast(student.device.type, enabled=False):  # bfloat16 is too coarse to tell thousands of people apart
            logits = self.classifier(self.scale * normalize(student[known].float(), dim=1))
            loss = cross_entropy(logits, identity[known], reduction="sum")
        return loss / (known.sum() if total is None else total).clamp(min=1)
