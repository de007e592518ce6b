"""The three heads: class, box and embedding.

Convolutions are shared by all levels, batch norm is each level's own. Channels of a map are slot-major: all outputs of
anchor slot 0, then all of slot 1.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, relu
from torch.nn.utils import parametrize

from tdtrack.config import ModelConfig
from tdtrack.errors import ShapeError

__all__ = ["EmbeddingHead", "Subnet", "class_bias", "per_anchor"]

_TOWER_STD = 0.01
_LAST_STD = 1e-5


def per_anchor(level: Tensor, slots: int) -> Tensor:
    """Lay a head's map out by anchor.

    Args:
        level: ``(B, slots * D, H, W)``.
        slots: A, anchors of one cell.

    Returns:
        ``(B, H * W * slots, D)`` in anchor order; a view when the map is channels-last.
    """
    batch, channels = level.shape[:2]
    return level.permute(0, 2, 3, 1).reshape(batch, -1, channels // slots)


class Subnet(nn.Module):
    """The class or the box subnet."""

    def __init__(self, levels: int, outputs: int, bias: float, config: ModelConfig) -> None:
        """Build the subnet.

        Args:
            levels: L, levels of the pyramid.
            outputs: channels of the last convolution, A times the numbers per anchor.
            bias: initial bias of the last convolution.
            config: gives widths and depth.

        Source:
            Sec. 4.2 for depth and width; sharing, per-level norms and initial weights from TensorFlow Model Garden.
        """
        super().__init__()
        widths = [config.fpn_width] + [config.subnet_width] * config.subnet_depth
        # No bias in front of a norm: its shift does the same.
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1, bias=False) for i, o in pairwise(widths))
        self.norms = nn.ModuleList(nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:]) for _ in range(levels))
        self.last = nn.Conv2d(widths[-1], outputs, 3, padding=1)
        for conv in self.convs:
            nn.init.normal_(cast(nn.Conv2d, conv).weight, std=_TOWER_STD)
        nn.init.normal_(self.last.weight, std=_LAST_STD)
        nn.init.constant_(cast(Tensor, self.last.bias), bias)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Return ``(B, outputs, H_l, W_l)`` for every level."""
        maps = []
        for level, norms in zip(features, self.norms):
            for conv, norm in zip(self.convs, cast(nn.ModuleList, norms)):
                level = relu(norm(conv(level)))
            maps.append(self.last(level))
        return maps


class EmbeddingHead(nn.Module):
    """Two convolutions that give every anchor an embedding.

    The first runs everywhere (:meth:`forward`). The second, by far the most expensive layer of the model, runs
    everywhere as in the paper (:meth:`dense`) or only at anchors that are asked for (:meth:`at`); both give the same.
    """

    def __init__(self, levels: int, config: ModelConfig) -> None:
        """Build the head.

        Args:
            levels: L, levels of the pyramid.
            config: gives widths, A and D_s.

        Source:
            Sec. 3.2, 4.2: conv 3x3, batch norm, ReLU, conv 3x3 to A * D_s channels.
        """
        super().__init__()
        self.slots = config.anchors_per_cell
        self.conv1 = nn.Conv2d(config.fpn_width, config.embedding_width, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(config.embedding_width) for _ in range(levels))
        self.conv2 = nn.Conv2d(config.embedding_width, self.slots * config.embedding_dim, 3, padding=1)
        nn.init.normal_(self.conv1.weight, std=_TOWER_STD)
        nn.init.normal_(self.conv2.weight, std=_LAST_STD)
        nn.init.zeros_(cast(Tensor, self.conv2.bias))

    def start_at(self, mean: Tensor) -> None:
        """Predict one embedding everywhere, until trained.

        Args:
            mean: ``(D_s,)``.

        Raises:
            ShapeError: the mean has another width.
        """
        bias = cast(Tensor, self.conv2.bias)
        if mean.shape != (len(bias) // self.slots,):
            raise ShapeError(f"mean embedding has shape {tuple(mean.shape)}, expected ({len(bias) // self.slots},)")
        bias.copy_(mean.repeat(self.slots))

    def share_slots(self) -> None:
        """Split the last kernel for training: each slot's own, as it is, plus one for all slots that starts at zero.

        The head computes what it did; but what one slot's boxes teach, the shared kernel learns for all.

        Source:
            Our choice: a slot sees a ninth of the boxes or less, too few in short runs.
        """
        parametrize.register_parametrization(self.conv2, "weight", _SlotsShare(self.slots))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Return the hidden maps ``(B, W_e, H_l, W_l)`` of every level, after the ReLU."""
        return [relu(norm(self.conv1(level))) for level, norm in zip(features, self.norms)]

    def dense(self, hidden: list[Tensor]) -> Tensor:
        """Return ``(B, N, D_s)``: the embedding of every anchor, not normalised."""
        return torch.cat([per_anchor(self.conv2(level), self.slots) for level in hidden], dim=1)

    def at(self, hidden: list[Tensor], image: Tensor, anchor: Tensor) -> Tensor:
        """Embed chosen anchors only.

        Args:
            hidden: what :meth:`forward` returned.
            image: ``(P,)`` int64, index into the batch.
            anchor: ``(P,)`` int64, index into all anchors of the image.

        Returns:
            ``(P, D_s)``, not normalised, in the order asked for; the rows of :meth:`dense` to rounding, also in
            gradients. P may be 0, and the result still depends on every weight then (by zero).

        Source:
            Our choice: Sec. 3.2 computes every anchor's embedding, the loss and the tracker use a handful.
        """
        patches = self._patches(hidden, image, anchor // self.slots)
        weight = self.conv2.weight
        kernels = weight.permute(0, 2, 3, 1).reshape(self.slots, -1, patches.shape[1]).unbind()
        biases = cast(Tensor, self.conv2.bias).view(self.slots, -1).unbind()
        slot = anchor % self.slots
        order = torch.argsort(slot, stable=True)
        counts = torch.bincount(slot, minlength=self.slots).tolist()
        rows = torch.split(patches.to(weight.dtype)[order], counts)
        embedded = torch.cat([linear(part, kernel, bias) for part, kernel, bias in zip(rows, kernels, biases)])
        return embedded[torch.argsort(order)]

    def _patches(self, hidden: list[Tensor], image: Tensor, cell: Tensor) -> Tensor:
        """Return the ``(P, 9 * W_e)`` neighbourhoods of cells counted over all levels, zero beyond a map's border."""
        device = cell.device
        ends = torch.tensor([level.shape[2] * level.shape[3] for level in hidden], device=device).cumsum(0)
        of_level = torch.bucketize(cell, ends, right=True)
        order = torch.argsort(of_level, stable=True)
        counts = torch.bincount(of_level, minlength=len(hidden)).tolist()
        step = torch.arange(-1, 2, device=device)
        step_y, step_x = step.repeat_interleave(3), step.repeat(3)
        patches, start = [], 0
        for level, rows in zip(hidden, torch.split(order, counts)):
            height, width = level.shape[2:]
            y = (cell[rows] - start).div(width, rounding_mode="floor")[:, None] + step_y
            x = ((cell[rows] - start) % width)[:, None] + step_x
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            position = (image[rows, None] * height + y.clamp(0, height - 1)) * width + x.clamp(0, width - 1)
            cells = level.permute(0, 2, 3, 1).reshape(-1, level.shape[1])
            # Not cells[position]: on several CPU threads its gradient adds up overlapping patches in any order.
            taken = cells.index_select(0, position.flatten()).view(*position.shape, cells.shape[1])
            patches.append((taken * inside[..., None]).flatten(1))
            start += height * width
        return torch.cat(patches)[torch.argsort(order)]


class _SlotsShare(nn.Module):
    """A kernel of A slots as the sum of each slot's own and a shared one."""

    def __init__(self, slots: int) -> None:
        super().__init__()
        self.slots = slots

    def forward(self, own: Tensor, shared: Tensor) -> Tensor:
        return own + shared.repeat(self.slots, 1, 1, 1)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return weight, torch.zeros_like(weight[: len(weight) // self.slots])


def class_bias(prior: float) -> float:
    """Return the bias at which a sigmoid gives ``prior``."""
    return -math.log((1 - prior) / prior)
