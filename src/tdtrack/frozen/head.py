"""The head: from what was read at a box to its embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from tdtrack.frozen.pooling import Reading
from tdtrack.types import FloatArray

__all__ = ["AppearanceHead", "HeadArrays", "MapArrays"]

REDUCED = 16
"""Channels that each bin of each map is reduced to."""

WIDTH = 256
"""Of the one hidden layer."""

DROPOUT = 0.1


@dataclass(frozen=True)
class MapArrays:
    """What reduces one map's bins.

    Attributes:
        weight: ``(C, r)``.
        bias: ``(r,)``.
    """

    weight: FloatArray
    bias: FloatArray


@dataclass(frozen=True)
class HeadArrays:
    """The head in evaluation mode, its normalisations folded into its layers.

    Attributes:
        maps: one per reading.
        hidden_weight: ``(sum of bins * r, W)``.
        hidden_bias: ``(W,)``.
        out_weight: ``(W, D)``.
        out_bias: ``(D,)``.
    """

    maps: tuple[MapArrays, ...]
    hidden_weight: FloatArray
    hidden_bias: FloatArray
    out_weight: FloatArray
    out_bias: FloatArray

    @property
    def dim(self) -> int:
        """D."""
        return len(self.out_bias)


class AppearanceHead(nn.Module):
    """Reduces each bin's channels, then two linear layers over all bins of all maps.

    Source:
        Our choice. The paper's head (Sec. 3.2) has five convolutions at anchors; a box's own grid says more with less.
    """

    directions: Tensor

    def __init__(self, readings: Sequence[Reading], directions: Tensor) -> None:
        """Make a head.

        Args:
            readings: what it is given, in order.
            directions: ``(D_t, D)`` orthonormal columns: what of the teacher's embedding it learns. Not used when it embeds.
        """
        super().__init__()
        self.register_buffer("directions", directions)
        self.norms = nn.ModuleList(nn.BatchNorm1d(reading.channels, affine=False) for reading in readings)
        self.reduce = nn.ModuleList(nn.Linear(reading.channels, REDUCED) for reading in readings)
        self.hidden = nn.Linear(sum(reading.bins for reading in readings) * REDUCED, WIDTH)
        self.norm = nn.BatchNorm1d(WIDTH)
        self.out = nn.Linear(WIDTH, directions.shape[1])
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, pooled: Sequence[Tensor]) -> Tensor:
        """Embed boxes.

        Args:
            pooled: ``(n, bins, C)`` by reading.

        Returns:
            ``(n, D)``, not yet of unit length.
        """
        parts = []
        for values, norm, reduce in zip(pooled, self.norms, self.reduce):
            level = norm(values.float().flatten(0, 1)).reshape(values.shape)
            parts.append(torch.relu(reduce(level)).flatten(1))
        hidden = torch.relu(self.norm(self.hidden(self.drop(torch.cat(parts, dim=1)))))
        embedded: Tensor = self.out(self.drop(hidden))
        return embedded

    def target(self, teacher: Tensor) -> Tensor:
        """Return the ``(n, D)`` unit vectors that ``(n, D_t)`` teacher embeddings stand for."""
        return normalize(teacher.float() @ self.directions, dim=1)

    def arrays(self) -> HeadArrays:
        """Return what evaluation mode computes, as arrays."""
        maps = []
        for norm, reduce in zip(self.norms, self.reduce):
            assert isinstance(norm, nn.BatchNorm1d) and isinstance(reduce, nn.Linear)
            scale, shift = _scale_and_shift(norm)
            weight = reduce.weight.double()
            maps.append(MapArrays(_array((weight * scale).T), _array(reduce.bias.double() + weight @ shift)))
        scale, shift = _scale_and_shift(self.norm)
        return HeadArrays(
            tuple(maps),
            _array((self.hidden.weight.double() * scale[:, None]).T),
            _array(self.hidden.bias.double() * scale + shift),
            _array(self.out.weight.T),
            _array(self.out.bias),
        )


def _scale_and_shift(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Return what a batch norm multiplies with and adds in evaluation mode."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    shift = -norm.running_mean.double() * scale
    if norm.affine:
        scale, shift = norm.weight.double() * scale, norm.bias.double() + norm.weight.double() * shift
    return scale, shift


def _array(values: Tensor) -> FloatArray:
    array: FloatArray = values.detach().float().contiguous().numpy()
    return array
