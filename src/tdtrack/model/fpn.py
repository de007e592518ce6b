"""From a backbone's features to a pyramid: with top-down fusion (FPN) or without."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn.functional import relu
from torchvision.ops import FeaturePyramidNetwork

from tdtrack.config import ModelConfig

__all__ = ["FeaturePyramid", "LateralPyramid"]


class FeaturePyramid(nn.Module):
    """Top-down pyramid over the backbone's features, extended by strided convolutions, then batch-normed."""

    def __init__(self, channels: list[int], config: ModelConfig) -> None:
        """Build the pyramid.

        Args:
            channels: of the backbone's features, from ``config.min_level`` on.
            config: gives width and levels.

        Source:
            Sec. 3.2 and 4.2. As TensorFlow Model Garden builds it: level 6 is a strided 3x3 convolution of level 5's
            pyramid output, level 7 one of ReLU(level 6), and every level is normalised last.
        """
        super().__init__()
        width = config.fpn_width
        self.top_down = FeaturePyramidNetwork(channels, width)
        self.coarser = _coarser_levels(len(channels), config)
        self.norms = _level_norms(config)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Return ``(B, fpn_width, H_l, W_l)`` for every level, fine to coarse."""
        maps = list(self.top_down({str(index): feature for index, feature in enumerate(features)}).values())
        return _extend_and_normalise(maps, self.coarser, self.norms)


class LateralPyramid(nn.Module):
    """The same levels without fusion: each is one 1x1 convolution of the backbone's features at its stride."""

    def __init__(self, channels: list[int], config: ModelConfig) -> None:
        """Build the pyramid.

        Args:
            channels: of the backbone's features, from ``config.min_level`` on.
            config: gives width and levels.

        Source:
            Tab. 5's MNet, "without the FPN"; that its coarser levels and norms are those of the FPN is our reading.
        """
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(inputs, config.fpn_width, 1) for inputs in channels)
        self.coarser = _coarser_levels(len(channels), config)
        self.norms = _level_norms(config)
        for conv in self.lateral:
            _initialise(cast(nn.Conv2d, conv))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Return ``(B, fpn_width, H_l, W_l)`` for every level, fine to coarse."""
        maps = [conv(feature) for conv, feature in zip(self.lateral, features)]
        return _extend_and_normalise(maps, self.coarser, self.norms)


def _coarser_levels(present: int, config: ModelConfig) -> nn.ModuleList:
    """Return the strided convolutions that make the levels beyond the backbone's."""
    width = config.fpn_width
    coarser = config.max_level - config.min_level + 1 - present
    convs = nn.ModuleList(nn.Conv2d(width, width, 3, stride=2, padding=1) for _ in range(coarser))
    for conv in convs:
        _initialise(cast(nn.Conv2d, conv))
    return convs


def _level_norms(config: ModelConfig) -> nn.ModuleList:
    return nn.ModuleList(nn.BatchNorm2d(config.fpn_width) for _ in range(config.min_level, config.max_level + 1))


def _extend_and_normalise(maps: list[Tensor], coarser: nn.ModuleList, norms: nn.ModuleList) -> list[Tensor]:
    for index, conv in enumerate(coarser):
        maps.append(conv(maps[-1] if index == 0 else relu(maps[-1])))
    return [norm(level) for norm, level in zip(norms, maps)]


def _initialise(conv: nn.Conv2d) -> None:
    """As torchvision initialises its own pyramid."""
    nn.init.kaiming_uniform_(conv.weight, a=1)
    nn.init.zeros_(cast(Tensor, conv.bias))
