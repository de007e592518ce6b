"""OSNet, the omni-scale Re-ID network, under torchreid's parameter names.

Zhou et al., "Omni-Scale Feature Learning for Person Re-Identification" (ICCV 2019) for the plain and the IBN network, and
"Learning Generalisable Omni-Scale Representations for Person Re-Identification" (TPAMI 2021) for AIN. The attribute names
(``conv2.0.conv2a``, ``IN``, ``gate.fc1`` ...) are the state-dict keys of torchreid's published checkpoints and must not change.
The identity classifier is left out: a teacher gives features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "OSNet",
    "osnet_ain_x0_5",
    "osnet_ain_x0_25",
    "osnet_ain_x0_75",
    "osnet_ain_x1_0",
    "osnet_ibn_x1_0",
    "osnet_x0_5",
    "osnet_x0_25",
    "osnet_x0_75",
    "osnet_x1_0",
]

Variant = Literal["plain", "ibn", "ain"]

_FULL_WIDTH = (64, 256, 384, 512)
_STREAMS = 4  # receptive fields 3x3, 5x5, 7x7 and 9x9
_BOTTLENECK = 4
_GATE_REDUCTION = 16


class _ConvNorm(nn.Module):
    """Convolution, then batch norm, instance norm or nothing, then perhaps ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        norm: Literal["batch", "instance", "none"] = "batch",
        relu: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        self.bn: nn.Module = nn.Identity()
        if norm == "batch":
            self.bn = nn.BatchNorm2d(outputs)
        elif norm == "instance":
            self.bn = nn.InstanceNorm2d(outputs, affine=True)
        self.relu = relu

    def forward(self, features: Tensor) -> Tensor:
        features = self.bn(self.conv(features))
        return F.relu(features, inplace=True) if self.relu else features


class _LightConv(nn.Module):
    """A 3x3 convolution factorised into pointwise (linear), then depthwise."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv2(self.conv1(features))), inplace=True)


class _Stream(nn.Module):
    """AIN's name for a chain of light convolutions."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(_LightConv(channels) for _ in range(depth)))

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features)  # type: ignore[no-any-return]


class _Gate(nn.Module):
    """Unified aggregation gate: one small network weighs the channels of every stream."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // _GATE_REDUCTION, 1)
        self.fc2 = nn.Conv2d(channels // _GATE_REDUCTION, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Weights in ``(0, 1)`` per image and channel, ``(B, C, 1, 1)``; linear layers, since a 1x1 map is a vector."""
        hidden = F.relu(F.linear(features.mean(dim=(2, 3)), self.fc1.weight.flatten(1), self.fc1.bias))
        return torch.sigmoid(F.linear(hidden, self.fc2.weight.flatten(1), self.fc2.bias))[:, :, None, None]


class _Block(nn.Module):
    """Omni-scale residual block: four streams of growing receptive field, gated by one network and summed."""

    def __init__(self, inputs: int, outputs: int, *, ain: bool, norm: Literal["none", "after", "inside"]) -> None:
        """Lay out a block.

        Args:
            inputs: channels in.
            outputs: channels out.
            ain: name the streams as AIN's checkpoints do.
            norm: instance norm nowhere, after the residual sum (IBN), or inside the residual branch instead of
                the last batch norm (AIN).
        """
        super().__init__()
        middle = outputs // _BOTTLENECK
        self.ain = ain
        self.norm = norm
        self.conv1 = _ConvNorm(inputs, middle)
        if ain:
            self.conv2 = nn.ModuleList(_Stream(middle, depth) for depth in range(1, _STREAMS + 1))
        else:
            self.conv2a = _LightConv(middle)
            self.conv2b = nn.Sequential(*(_LightConv(middle) for _ in range(2)))
            self.conv2c = nn.Sequential(*(_LightConv(middle) for _ in range(3)))
            self.conv2d = nn.Sequential(*(_LightConv(middle) for _ in range(4)))
        self.gate = _Gate(middle)
        self.conv3 = _ConvNorm(middle, outputs, norm="none" if norm == "inside" else "batch", relu=False)
        self.downsample = _ConvNorm(inputs, outputs, relu=False) if inputs != outputs else None
        self.IN = nn.InstanceNorm2d(outputs, affine=True) if norm != "none" else None

    def forward(self, features: Tensor) -> Tensor:
        streams = self.conv2 if self.ain else (self.conv2a, self.conv2b, self.conv2c, self.conv2d)
        squeezed = self.conv1(features)
        gathered: Tensor | None = None
        for stream in streams:
            scale = stream(squeezed)
            weighted = self.gate(scale) * scale
            gathered = weighted if gathered is None else gathered + weighted
        branch = self.conv3(gathered)
        if self.norm == "inside" and self.IN is not None:
            branch = self.IN(branch)
        total = branch + (features if self.downsample is None else self.downsample(features))
        if self.norm == "after" and self.IN is not None:
            total = self.IN(total)
        return F.relu(total, inplace=True)


def _transition(channels: int) -> nn.Sequential:
    return nn.Sequential(_ConvNorm(channels, channels), nn.AvgPool2d(2, stride=2))


class OSNet(nn.Module):
    """The network without its identity classifier.

    Attributes:
        feature_dim: D_t, 512 at every width.
    """

    feature_dim = 512

    def __init__(self, channels: Sequence[int] = _FULL_WIDTH, variant: Variant = "plain") -> None:
        """Build with random weights: He initialisation, and every residual branch silent, so that a short training gets going.

        Args:
            channels: outputs of the stem and of the three stages.
            variant: "plain"; "ibn" adds instance norm to the stem and to the first stage; "ain" puts it into residual
                branches where its authors' architecture search found it best.
        """
        super().__init__()
        stem, first, second, third = channels
        self.variant = variant
        self.conv1 = _ConvNorm(3, stem, 7, stride=2, norm="batch" if variant == "plain" else "instance")
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        if variant == "ain":
            self.conv2 = self._stage(stem, first, ("inside", "inside"))
            self.pool2 = _transition(first)
            self.conv3 = self._stage(first, second, ("none", "inside"))
            self.pool3 = _transition(second)
            self.conv4 = self._stage(second, third, ("inside", "none"))
        else:
            norm: Literal["none", "after"] = "after" if variant == "ibn" else "none"
            self.conv2 = self._stage(stem, first, (norm, norm)).append(_transition(first))
            self.conv3 = self._stage(first, second, ("none", "none")).append(_transition(second))
            self.conv4 = self._stage(second, third, ("none", "none"))
        self.conv5 = _ConvNorm(third, third)
        self.fc = nn.Sequential(nn.Linear(third, self.feature_dim), nn.BatchNorm1d(self.feature_dim), nn.ReLU())
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)
            elif isinstance(module, _Block):
                last = module.IN if module.norm == "inside" else module.conv3.bn
                nn.init.zeros_(cast("nn.Parameter", cast("nn.Module", last).weight))

    def _stage(self, inputs: int, outputs: int, norms: Sequence[Literal["none", "after", "inside"]]) -> nn.Sequential:
        ain = self.variant == "ain"
        return nn.Sequential(
            *(_Block(inputs if i == 0 else outputs, outputs, ain=ain, norm=norm) for i, norm in enumerate(norms))
        )

    def forward(self, images: Tensor) -> Tensor:
        """Features of crops.

        Args:
            images: ``(B, 3, H, W)`` RGB, ImageNet-normalised.

        Returns:
            ``(B, 512)`` features, not normalised, none negative (the last layer is a ReLU).
        """
        features = self.conv2(self.maxpool(self.conv1(images)))
        features = self.pool2(features) if self.variant == "ain" else features
        features = self.conv3(features)
        features = self.pool3(features) if self.variant == "ain" else features
        features = self.conv5(self.conv4(features))
        return self.fc(features.mean(dim=(2, 3)))  # type: ignore[no-any-return]


def _scaled(width: float) -> tuple[int, ...]:
    return tuple(round(channels * width) for channels in _FULL_WIDTH)


def osnet_x1_0() -> OSNet:
    """OSNet at full width: 2.2 million parameters."""
    return OSNet(_scaled(1.0))


def osnet_x0_75() -> OSNet:
    """OSNet at three quarters of the width: 1.3 million parameters."""
    return OSNet(_scaled(0.75))


def osnet_x0_5() -> OSNet:
    """OSNet at half the width: 0.6 million parameters."""
    return OSNet(_scaled(0.5))


def osnet_x0_25() -> OSNet:
    """OSNet at a quarter of the width, the paper's ON-Small (Tab. 3): 0.2 million parameters."""
    return OSNet(_scaled(0.25))


def osnet_ibn_x1_0() -> OSNet:
    """OSNet with instance norm in its early layers: 2.2 million parameters."""
    return OSNet(_scaled(1.0), "ibn")


def osnet_ain_x1_0() -> OSNet:
    """OSNet with searched instance norm, the paper's ON-Large (Tab. 3): 2.2 million parameters."""
    return OSNet(_scaled(1.0), "ain")


def osnet_ain_x0_75() -> OSNet:
    """AIN at three quarters of the width: 1.3 million parameters."""
    return OSNet(_scaled(0.75), "ain")


def osnet_ain_x0_5() -> OSNet:
    """AIN at half the width: 0.6 million parameters."""
    return OSNet(_scaled(0.5), "ain")


def osnet_ain_x0_25() -> OSNet:
    """AIN at a quarter of the width: 0.2 million parameters; of the small ones the best when cameras differ much."""
    return OSNet(_scaled(0.25), "ain")
