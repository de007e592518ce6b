"""The feature pyramid."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import relu
from torchvision.ops import FeaturePyramidNetwork

from tdtrack.config import ModelConfig

__all__ = ["FeaturePyramid"]


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
        coarser = config.max_level - config.min_level + 1 - len(channels)
        self.coarser = nn.ModuleList(nn.Conv2d(width, width, 3, stride=2, padding=1) for _ in range(coarser))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(len(channels) + coarser))
        for conv in self.coarser:
            nn.init.kaiming_uniform_(conv.weight, a=1)  # type: ignore[arg-type]  # as torchvision's own levels
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Return ``(B, fpn_width, H_l, W_l)`` for every level, fine to coarse."""
        maps = list(self.top_down({str(index): feature for index, feature in enumerate(features)}).values())
        for index, conv in enumerate(self.coarser):
            maps.append(conv(maps[-1] if index == 0 else relu(maps[-1])))
        return [norm(level) for norm, level in zip(self.norms, maps)]
