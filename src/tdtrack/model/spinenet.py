"""SpineNet, a backbone whose blocks jump between scales and which therefore is a pyramid itself.

Du et al., "SpineNet: Learning Scale-Permuted Backbone for Recognition and Localization" (CVPR 2020), the architecture that its
authors' search found and published (49 layers deep, hence the name), and its small member 49S. With the paper's RetinaNet
head, 49 has the published 28.5 million parameters and 85.1 (published: 85.4) thousand million multiply-adds. 49S, with 11.3 and
30.7, stays below the published 11.9 and 33.8, as other re-implementations do; why is not established.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d, relu

from tdtrack.config import ModelConfig
from tdtrack.errors import ConfigError

__all__ = ["SPINENETS", "SpineNet"]

Kind = Literal["bottleneck", "residual"]


@dataclass(frozen=True)
class _Node:
    """One block: its level, its kind, the two blocks it is made of, and whether it is a level of the pyramid."""

    level: int
    kind: Kind
    parents: tuple[int, int]
    output: bool = False


_STEM = (_Node(2, "bottleneck", (0, 0)), _Node(2, "bottleneck", (0, 0)))  # in sequence, before anything jumps
_NODES = (
    *_STEM,
    _Node(2, "bottleneck", (0, 1)),
    _Node(4, "residual", (0, 1)),
    _Node(3, "bottleneck", (2, 3)),
    _Node(4, "bottleneck", (2, 4)),
    _Node(6, "residual", (3, 5)),
    _Node(4, "bottleneck", (3, 5)),
    _Node(5, "residual", (6, 7)),
    _Node(7, "residual", (6, 8)),
    _Node(5, "bottleneck", (8, 9)),
    _Node(5, "bottleneck", (8, 10)),
    _Node(4, "bottleneck", (5, 10), output=True),
    _Node(3, "bottleneck", (4, 10), output=True),
    _Node(5, "bottleneck", (7, 12), output=True),
    _Node(7, "bottleneck", (5, 14), output=True),
    _Node(6, "bottleneck", (12, 14), output=True),
    _Node(2, "bottleneck", (2, 13), output=True),
)
"""The published architecture; parents count from the first stem block."""

_WIDTH = {2: 64, 3: 128, 4: 256, 5: 256, 6: 256, 7: 256}
_EXPANSION = 4
_STEM_WIDTH = 64
_RESAMPLE_ALPHA = 0.5  # share of a block's width that is left while its map is resampled


SPINENETS = {"spinenet49": 1.0, "spinenet49s": 0.65}
"""Members by name, and the factor on the width of every block. Published with 256 and 128 channels per level of the pyramid
(``model.fpn_width``)."""


class SpineNet(nn.Module):
    """The network, cut to the blocks that the wanted levels need."""

    def __init__(self, config: ModelConfig) -> None:
        """Build the network; weights are random, there are none from ImageNet.

        Args:
            config: ``backbone`` is a key of ``SPINENETS``; also gives the levels and their channels.

        Raises:
            ConfigError: a level outside 2 to 7, or pretrained weights are asked for.
        """
        super().__init__()
        _check(config)
        scale = SPINENETS[config.backbone]
        inner = {level: int(width * scale) for level, width in _WIDTH.items()}
        outputs = {node.level: index for index, node in enumerate(_NODES) if node.output}
        self._outputs = [outputs[level] for level in range(config.min_level, config.max_level + 1)]
        self._parents = _all_parents()
        self._needed = _needed(self._outputs, self._parents)
        self.stem = nn.Sequential(
            _conv_norm(3, _STEM_WIDTH, 7, stride=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, stride=2, padding=1)
        )
        self.resample = nn.ModuleDict()
        self.blocks = nn.ModuleDict()
        for index in self._needed:
            node = _NODES[index]
            channels = _channels(node, inner)
            if index < len(_STEM):
                inputs = _STEM_WIDTH if index == 0 else channels
            else:
                inputs = channels
                for parent in node.parents:
                    source = _NODES[parent]
                    self.resample[f"{parent}_{index}"] = _Resample(
                        _channels(source, inner),
                        int(inner[source.level] * _RESAMPLE_ALPHA),
                        channels,
                        node.level - source.level,
                    )
            self.blocks[str(index)] = _Block(inputs, inner[node.level], node.kind)
        self.endpoints = nn.ModuleList(
            nn.Sequential(_conv_norm(_channels(_NODES[index], inner), config.fpn_width, 1), nn.ReLU(inplace=True))
            for index in self._outputs
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return ``(B, fpn_width, H_l, W_l)`` of each level, fine to coarse, of normalised ``(B, 3, H, W)`` images."""
        sizes = _level_sizes(images)
        first = self.blocks["0"](self.stem(images))
        maps = {0: first, 1: self.blocks["1"](first)}
        for index in self._needed[len(_STEM) :]:
            node = _NODES[index]
            merged = [self.resample[f"{parent}_{index}"](maps[parent], sizes[node.level]) for parent in node.parents]
            merged += [maps[parent] for parent in self._parents[index][2:]]
            maps[index] = self.blocks[str(index)](relu(sum(merged[1:], merged[0])))
        return [endpoint(maps[index]) for endpoint, index in zip(self.endpoints, self._outputs)]


class _Resample(nn.Module):
    """Carries a block's map to another level and width: narrow, move, widen."""

    def __init__(self, inputs: int, middle: int, outputs: int, steps: int) -> None:
        """Lay out the path.

        Args:
            inputs: channels in.
            middle: channels while the map changes its size.
            outputs: channels out.
            steps: levels to climb; negative goes down to finer ones.
        """
        super().__init__()
        self.steps = steps
        self.narrow = _conv_norm(inputs, middle, 1)
        self.halve = _conv_norm(middle, middle, 3, stride=2) if steps > 0 else None
        self.widen = _conv_norm(middle, outputs, 1)

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Return ``(B, outputs, *size)``, before any ReLU."""
        features = relu(self.narrow(features))
        if self.halve is not None:
            features = relu(self.halve(features))
            for _ in range(self.steps - 1):
                features = max_pool2d(features, 3, stride=2, padding=1)
        elif self.steps < 0:
            features = interpolate(features, size=size, mode="nearest")
        return cast(Tensor, self.widen(features))


class _Block(nn.Module):
    """A residual block of ResNet, with two 3x3 convolutions or with a bottleneck."""

    def __init__(self, inputs: int, width: int, kind: Kind) -> None:
        super().__init__()
        outputs = width * _EXPANSION if kind == "bottleneck" else width
        kernels = (1, 3, 1) if kind == "bottleneck" else (3, 3)
        widths = [inputs, *([width] * (len(kernels) - 1)), outputs]
        self.convs = nn.ModuleList(_conv_norm(i, o, kernel) for i, o, kernel in zip(widths, widths[1:], kernels))
        self.shortcut = _conv_norm(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        branch = features
        for conv in self.convs[:-1]:
            branch = relu(conv(branch))
        return relu(self.convs[-1](branch) + self.shortcut(features))


def _conv_norm(inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


def _channels(node: _Node, inner: dict[int, int]) -> int:
    return inner[node.level] * (_EXPANSION if node.kind == "bottleneck" else 1)


def _all_parents() -> dict[int, tuple[int, ...]]:
    """Add to an output's two parents the earlier blocks of its level and width that no one has used: nothing is lost."""
    used = [0] * len(_NODES)
    parents: dict[int, tuple[int, ...]] = {}
    for index, node in enumerate(_NODES[len(_STEM) :], start=len(_STEM)):
        for parent in node.parents:
            used[parent] += 1
        unused: list[int] = []
        if node.output:
            alike = [j for j in range(index) if (_NODES[j].level, _NODES[j].kind) == (node.level, node.kind)]
            unused = [j for j in alike if used[j] == 0]
        for j in unused:
            used[j] += 1
        parents[index] = (*node.parents, *unused)
    return parents


def _needed(outputs: Sequence[int], parents: dict[int, tuple[int, ...]]) -> list[int]:
    """Return the blocks that the outputs are made of, in order, both stem blocks first."""
    needed = {*range(len(_STEM)), *outputs}
    for index in reversed(range(len(_STEM), len(_NODES))):
        if index in needed:
            needed.update(parents[index])
    return sorted(needed)


def _level_sizes(images: Tensor) -> dict[int, tuple[int, int]]:
    """Return height and width of each level's map: strides round up."""
    height, width = images.shape[2:]
    return {level: (-(-height // 2**level), -(-width // 2**level)) for level in _WIDTH}


def _check(config: ModelConfig) -> None:
    if config.max_level > max(_WIDTH):
        raise ConfigError(f"model.backbone {config.backbone!r} has levels 2..7, not {config.max_level}; lower model.max_level")
    if config.pretrained:
        raise ConfigError(f"model.backbone {config.backbone!r} has no ImageNet weights; set model.pretrained to false")
