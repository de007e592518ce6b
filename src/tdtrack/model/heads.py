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
from torch.nn.functional import conv2d, linear, relu
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

    The second is by far the most expensive layer of the model. Both run everywhere, as in the paper (:meth:`forward`, then
    :meth:`dense`); or the second only at anchors that are asked for (:meth:`at`); or both only there (:meth:`lazily_at`). All
    give the same.
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

    def map_outputs(self, offset: Tensor, matrix: Tensor) -> None:
        """Make every embedding ``e`` come out as ``(e - offset) @ matrix``.

        Args:
            offset: ``(D_s,)``.
            matrix: ``(D_s, D_s)``.
        """
        kernel, bias = self.conv2.weight, cast(Tensor, self.conv2.bias)
        by_slot = kernel.double().reshape(self.slots, len(offset), -1)
        kernel.copy_((matrix.double().T @ by_slot).reshape(kernel.shape))
        bias.copy_(((bias.double().view(self.slots, -1) - offset.double()) @ matrix.double()).flatten())

    def share_slots(self) -> None:
        """Split the last kernel for training: each slot's own, as it is, plus one for all slots that starts at zero.

        The head computes what it did; but what one slot's boxes teach, the shared kernel learns for all.

        Source:
            Our choice: a slot sees a ninth of the boxes or less, too few in short runs.
        """
        parametrize.register_parametrization(self.conv2, "weight", _SlotsShare(self.slots))

    def tie_slots(self) -> None:
        """Train one last kernel for all slots, the mean of what they had; biases stay each slot's own.

        Source:
            Our choice, for short runs: all boxes teach the one kernel, and the optimizer has a ninth of the weights to move.
        """
        parametrize.register_parametrization(self.conv2, "weight", _SlotsTied(self.slots))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Return the hidden maps ``(B, W_e, H_l, W_l)`` of every level, after the ReLU."""
        return [relu(norm(self.conv1(level))) for level, norm in zip(features, self.norms)]

    def dense(self, hidden: list[Tensor]) -> Tensor:
        """Return ``(B, N, D_s)``: the embedding of every anchor, not normalised."""
        return torch.cat([per_anchor(self.conv2(level), self.slots) for level in hidden], dim=1)

    def at(self, hidden: list[Tensor], image: Tensor, anchor: Tensor) -> Tensor:
        """Embed chosen anchors only, from maps that are computed everywhere.

        What training needs: batch norm learns from whole maps.

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
        levels = _rows_by_level(hidden, anchor // self.slots)
        patches = [_patches(level, image[rows], cell, 1)[0].flatten(1) for level, (rows, cell) in zip(hidden, levels)]
        return self._project(patches, [rows for rows, _ in levels], anchor % self.slots)

    def lazily_at(self, features: list[Tensor], image: Tensor, anchor: Tensor) -> Tensor:
        """Embed chosen anchors only, from the pyramid: nothing of this head runs anywhere else.

        What an anchor's embedding depends on is the 5x5 neighbourhood of its cell. Only in evaluation mode, when batch norm
        is a fixed scale and shift.

        Args:
            features: the pyramid's ``(B, fpn_width, H_l, W_l)``.
            image: as in :meth:`at`.
            anchor: as in :meth:`at`.

        Returns:
            As :meth:`at` of :meth:`forward` of the features, to rounding.

        Source:
            Our choice: the first convolution alone, run everywhere, is a tenth of the detector's work.
        """
        levels = _rows_by_level(features, anchor // self.slots)
        patches = []
        for level, norm, (rows, cell) in zip(features, self.norms, levels):
            taken, inside = _patches(level, image[rows], cell, 2)
            grid = taken.view(len(rows), 5, 5, level.shape[1]).permute(0, 3, 1, 2)  # channels last as it lies
            hidden = relu(norm(conv2d(grid, self.conv1.weight))).permute(0, 2, 3, 1).flatten(1, 2)
            # The second convolution pads with zeros, not with what the first gives beyond the border.
            hidden = hidden * inside.view(-1, 5, 5)[:, 1:4, 1:4].reshape(-1, 9, 1)
            patches.append(hidden.flatten(1))
        return self._project(patches, [rows for rows, _ in levels], anchor % self.slots)

    def _project(self, patches: list[Tensor], rows: list[Tensor], slot: Tensor) -> Tensor:
        """Apply the last convolution to ``(P_l, 9 * W_e)`` patches of every level, each at its anchor's slot.

        Rows are sorted by slot, so that each slot's kernel is used where it lies: picking one per row would copy them P times.
        """
        gathered = torch.cat(patches)[torch.argsort(torch.cat(rows))]
        biases = cast(Tensor, self.conv2.bias).view(self.slots, -1)
        if (common := self._tied_kernel()) is not None:
            kernel = common.permute(0, 2, 3, 1).flatten(1)
            return linear(gathered.to(kernel.dtype), kernel) + biases.index_select(0, slot)
        order = torch.argsort(slot, stable=True)
        counts = torch.bincount(slot, minlength=self.slots).tolist()
        weight = self.conv2.weight
        kernels = weight.permute(0, 2, 3, 1).reshape(self.slots, -1, gathered.shape[1]).unbind()
        parts = torch.split(gathered[order].to(weight.dtype), counts)
        embedded = torch.cat([linear(part, kernel, bias) for part, kernel, bias in zip(parts, kernels, biases.unbind())])
        return embedded[torch.argsort(order)]

    def _tied_kernel(self) -> Tensor | None:
        """Return the ``(D_s, W_e, 3, 3)`` that all slots share while training, if they are tied."""
        if not parametrize.is_parametrized(self.conv2, "weight"):
            return None
        split = cast(nn.ModuleDict, self.conv2.parametrizations)["weight"]
        return cast(Tensor, split.original) if isinstance(cast(nn.ModuleList, split)[0], _SlotsTied) else None


def _rows_by_level(maps: list[Tensor], cell: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Sort cells, counted over all levels, by level.

    Args:
        maps: one ``(B, C, H_l, W_l)`` per level.
        cell: ``(P,)`` int64.

    Returns:
        Per level the rows of ``cell`` that lie on it, and their cells counted from its first.
    """
    sizes = [level.shape[2] * level.shape[3] for level in maps]
    ends = torch.tensor(sizes, device=cell.device).cumsum(0)
    of_level = torch.bucketize(cell, ends, right=True)
    counts = torch.bincount(of_level, minlength=len(maps)).tolist()
    rows = torch.split(torch.argsort(of_level, stable=True), counts)
    return [(chosen, cell[chosen] - end + size) for chosen, end, size in zip(rows, ends, sizes)]


def _patches(level: Tensor, image: Tensor, cell: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """Cut out the neighbourhoods of cells, ``reach`` cells to every side.

    Args:
        level: ``(B, C, H, W)``.
        image: ``(P,)`` int64, index into the batch.
        cell: ``(P,)`` int64 in ``[0, H * W)``.
        reach: 1 for 3x3, 2 for 5x5.

    Returns:
        ``(P, (2 * reach + 1)^2, C)`` row by row, zero beyond the map's border, and ``(P, (2 * reach + 1)^2)`` true inside it.
    """
    height, width = level.shape[2:]
    side = 2 * reach + 1
    step = torch.arange(-reach, reach + 1, device=cell.device)
    y = cell.div(width, rounding_mode="floor")[:, None] + step.repeat_interleave(side)
    x = (cell % width)[:, None] + step.repeat(side)
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    position = (image[:, None] * height + y.clamp(0, height - 1)) * width + x.clamp(0, width - 1)
    cells = level.permute(0, 2, 3, 1).reshape(-1, level.shape[1])
    # Not cells[position]: on several CPU threads its gradient adds up overlapping patches in any order.
    taken = cells.index_select(0, position.flatten()).view(*position.shape, cells.shape[1])
    return taken * inside[..., None], inside


class _SlotsShare(nn.Module):
    """A kernel of A slots as the sum of each slot's own and a shared one."""

    def __init__(self, slots: int) -> None:
        super().__init__()
        self.slots = slots

    def forward(self, own: Tensor, shared: Tensor) -> Tensor:
        return own + shared.repeat(self.slots, 1, 1, 1)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return weight, torch.zeros_like(weight[: len(weight) // self.slots])


class _SlotsTied(nn.Module):
    """A kernel of A slots that are all the same."""

    def __init__(self, slots: int) -> None:
        super().__init__()
        self.slots = slots

    def forward(self, common: Tensor) -> Tensor:
        return common.repeat(self.slots, 1, 1, 1)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight.reshape(self.slots, -1, *weight.shape[1:]).mean(dim=0)


def class_bias(prior: float) -> float:
    """Return the bias at which a sigmoid gives ``prior``."""
    return -math.log((1 - prior) / prior)
