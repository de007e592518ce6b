"""What a teacher in training is asked for."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["batch_hard_triplet_loss"]


def batch_hard_triplet_loss(features: Tensor, label: Tensor, margin: float) -> Tensor:
    """Each crop should be nearer to its farthest likeness than to its nearest stranger.

    Args:
        features: ``(B, D)``, scaled to unit length here.
        label: ``(B,)`` int64 identities.
        margin: by how much nearer, in Euclidean distance of unit vectors, in ``[0, 2]``.

    Returns:
        Scalar, the mean over crops with both a likeness and a stranger in the batch; zero, still differentiable, if none has.

    Source:
        Hermans et al., "In Defense of the Triplet Loss" (2017), batch hard.
    """
    unit = F.normalize(features, dim=1)
    # the root's slope is infinite at 0, where a crop drawn twice would put it
    distance = (2 - 2 * unit @ unit.T).clamp(min=1e-6).sqrt()
    same = label[:, None] == label[None, :]
    itself = torch.eye(len(label), dtype=torch.bool, device=label.device)
    farthest = distance.masked_fill(~same | itself, -torch.inf).amax(dim=1)
    nearest = distance.masked_fill(same, torch.inf).amin(dim=1)
    complete = torch.isfinite(farthest) & torch.isfinite(nearest)
    if not complete.any():
        return features.sum() * 0
    return F.relu(farthest[complete] - nearest[complete] + margin).mean()
