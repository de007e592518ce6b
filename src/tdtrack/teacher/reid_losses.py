"""What a teacher in training is asked for."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["IdentityHead", "contrastive_loss"]

_SCALE = 16.0  # makes cosines sharp enough for a softmax over hundreds of identities


class IdentityHead(nn.Module):
    """Scores of identities, as scaled cosines to one direction per identity.

    Batch norm comes first (the "neck"): features after a ReLU all lie in one corner, where cosines hardly differ.

    Source:
        Luo et al., "Bag of Tricks" (CVPRW 2019) for the neck; Wang et al., "NormFace" (2017) for the scaled cosines.
    """

    def __init__(self, dim: int, identities: int) -> None:
        """Build with random directions.

        Args:
            dim: D_t, width of the features.
            identities: how many to tell apart.
        """
        super().__init__()
        self.neck = nn.BatchNorm1d(dim)
        self.direction = nn.Parameter(torch.randn(identities, dim) * 0.01)

    def forward(self, features: Tensor) -> Tensor:
        """Score features.

        Args:
            features: ``(B, D_t)``.

        Returns:
            ``(B, identities)``, logits of a softmax.
        """
        return _SCALE * F.linear(F.normalize(self.neck(features)), F.normalize(self.direction))


def contrastive_loss(features: Tensor, label: Tensor, temperature: float) -> Tensor:
    """Crops of one identity should be more alike than crops of different ones.

    Args:
        features: ``(B, D_t)``, scaled to unit length here.
        label: ``(B,)`` int64 identities.
        temperature: what cosine similarities are divided by, above 0.

    Returns:
        Scalar: over crops with a likeness in the batch, the mean cross-entropy of telling likenesses from all other crops;
        zero, still differentiable, if there is none.

    Source:
        Khosla et al., "Supervised Contrastive Learning" (2020), L_out. It takes the place of Re-ID's usual batch-hard triplet
        loss, under which all features of a network from scratch fell into one point.
    """
    unit = F.normalize(features, dim=1)
    similarity = unit @ unit.T / temperature
    itself = torch.eye(len(label), dtype=torch.bool, device=label.device)
    log_share = similarity - similarity.masked_fill(itself, -torch.inf).logsumexp(dim=1, keepdim=True)
    alike = (label[:, None] == label[None, :]) & ~itself
    paired = alike.any(dim=1)
    if not paired.any():
        return features.sum() * 0
    per_crop = -(log_share * alike)[paired].sum(dim=1) / alike[paired].sum(dim=1)
    return per_crop.mean()
