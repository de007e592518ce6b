"""From a backbone's features to a pyramid: with top-down fusion (FPN) or without."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn.functional import relu
from torchvision.ops import FeaturePyramidNetwork

from tdtrack.config import ModelConfig

__all__ = ["FeaturePyramid"]


class FeaturePyramid(nn.Module):
    """A pyramid over the backbone's features, extended by strided convolutions, then batch-normed.

    Its levels are fused from coarse to fine (``top_down``), or each is one 1x1 convolution of the features at its own stride
    (``lateral``); one of the two is ``None``.
    """

    def __init__(self, channels: list[int], config: ModelConfig) -> None:
        """Build the pyramid.

        Args:
            channels: of the backbone's features, from ``config.min_level`` on.
            config: gives kind, width and levels.

        Source:
            Sec. 3.2 and 4.2. As TensorFlow Model Garden builds it: level 6 is a strided 3x3 convolution of level 5's
            pyramid output, level 7 one of ReLU(level 6), and every level is normalised last. Without fusion (Tab. 5's MNet)
            the coarser levels and the norms are the same; that is our reading.
        """
        super().__init__()
        width = config.fpn_width
        fused = config.pyramid == "fpn"
        self.top_down = FeaturePyramidNetwork(channels, width) if fused else None
        self.lateral = None if fused else nn.ModuleList(nn.Conv2d(inputs, width, 1) for inputs in channels)
        coarser = config.max_level - config.min_level + 1 - len(channels)
        self.coarser = nn.ModuleList(nn.Conv2d(width, width, 3, stride=2, padding=1) for _ in range(coarser))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(len(channels) + coarser))
        for conv in [*self.coarser, *(self.lateral or ())]:
            nn.init.kaiming_uniform_(cast(Tensor, conv.weight), a=1)  # as torchvision's own levels
            nn.init.zeros_(cast(Tensor, conv.bias))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Return ``(B, fpn_width, H_l, W_l)`` for every level, fine to coarse."""
        if self.lateral is not None:
            maps = [conv(feature) for conv, feature in zip(self.lateral, features)]
        else:
            named = {str(index): feature for index, feature in enumerate(features)}
            maps = list(cast(FeaturePyramidNetwork, self.top_down)(named).values())
        for index, conv in enumerate(self.coarser):
            maps.append(conv(maps[-1] if index == 0 else relu(maps[-1])))
        return [norm(level) for norm, level in zip(self.norms, maps)]
