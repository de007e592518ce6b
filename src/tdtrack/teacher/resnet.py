"""ResNet-50 as a Re-ID network, under torchreid's parameter names (which are torchvision's, plus ``fc``)."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

__all__ = ["ReidResNet", "resnet50", "resnet50_fc512"]


class ReidResNet(ResNet):  # type: ignore[misc]  # torchvision ships no types
    """ResNet-50 without a classifier.

    Attributes:
        feature_dim: D_t, width of the features.
    """

    feature_dim: int

    def __init__(self, fc_dim: int | None = None, last_stride: int = 2) -> None:
        """Build with random weights.

        Args:
            fc_dim: width of a linear layer with batch norm and ReLU after pooling; without it the pooled 2048 are the features.
            last_stride: stride of the last stage; 1 doubles its resolution.
        """
        super().__init__(Bottleneck, [3, 4, 6, 3])
        self.fc: nn.Module
        if last_stride == 1:
            first = self.layer4[0]
            first.conv2.stride = first.downsample[0].stride = (1, 1)
        pooled = self.fc.in_features
        self.feature_dim = pooled if fc_dim is None else fc_dim
        # assigned in place: the base class' forward ends in self.fc(pooled)
        self.fc = (
            nn.Identity() if fc_dim is None else nn.Sequential(nn.Linear(pooled, fc_dim), nn.BatchNorm1d(fc_dim), nn.ReLU())
        )

    def forward(self, images: Tensor) -> Tensor:
        """Features of crops.

        Args:
            images: ``(B, 3, H, W)`` RGB, ImageNet-normalised.

        Returns:
            ``(B, D_t)`` features, not normalised, none negative.
        """
        return cast("Tensor", super().forward(images))


def resnet50() -> ReidResNet:
    """ResNet-50 with 2048 features, the paper's ResNet-50 teacher (Tab. 3): 23.5 million parameters."""
    return ReidResNet()


def resnet50_fc512() -> ReidResNet:
    """ResNet-50 with last stride 1 and a 512-wide layer on top: 24.6 million parameters."""
    return ReidResNet(fc_dim=512, last_stride=1)
