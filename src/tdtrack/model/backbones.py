"""Backbones: SpineNet, and any timm network that gives features at the strides the pyramid needs."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import cast

import timm
import torch
from timm.models import FeatureInfo, split_model_name_tag
from torch import Tensor, nn
from torch.nn.functional import pad

from tdtrack.config import ModelConfig
from tdtrack.errors import ConfigError, ShapeError, WeightsError
from tdtrack.model.anchors import pyramid_shapes
from tdtrack.model.fpn import FeaturePyramid
from tdtrack.model.spinenet import SPINENETS, SpineNet

__all__ = ["DEEPEST_LEVEL", "Backbone", "build_trunk"]

DEEPEST_LEVEL = 5
"""Coarsest level taken from a backbone (stride 32); the pyramid adds the rest."""

_PROBED = 72  # pixels, of which 16 and 32 are no divisors


class Backbone(nn.Module):
    """A timm network cut into the features of pyramid levels ``min_level`` to 5.

    Attributes:
        channels: channels of each level's features, fine to coarse.
    """

    channels: list[int]

    def __init__(self, config: ModelConfig) -> None:
        """Build the network.

        Args:
            config: names it and says whether to start from ImageNet weights.

        Raises:
            ConfigError: timm does not know the name (the nearest is given), or the network has no features at a
                stride the pyramid needs.
            WeightsError: the ImageNet weights do not exist or cannot be fetched.

        Source:
            Sec. 3.2: RetinaNet "can be combined with different available architectures"; ResNet-34 in Sec. 4.2.
        """
        super().__init__()
        self._levels = config.min_level, min(DEEPEST_LEVEL, config.max_level)
        self._name = config.backbone
        self._traits = _look_at(config)
        try:
            self.body = timm.create_model(
                config.backbone, features_only=True, out_indices=self._traits.stages, pretrained=config.pretrained
            )
        except Exception as error:  # what a failed download raises depends on the hub client's version
            if not config.pretrained:
                raise
            raise WeightsError(
                f"ImageNet weights of {config.backbone} cannot be had ({str(error).rstrip('.')}); "
                "check the connection or set model.pretrained to false"
            ) from error
        self.channels = list(_feature_info(self.body).channels())

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the features of each level, fine to coarse, of normalised ``(B, 3, H, W)`` images.

        Networks that cut their input into patches drop what is left over at its border; zeros are added there for them.

        Raises:
            ShapeError: the network takes inputs of some sizes only, and not of this one.
        """
        height, width = images.shape[2:]
        if self._traits.rounds_down:
            most = 2 ** self._levels[1]
            images = pad(images, (0, -int(width) % most, 0, -int(height) % most))
        try:
            features = list(self.body(images))
        except (AssertionError, RuntimeError) as error:
            if not self._traits.choosy:
                raise
            raise ShapeError(
                f"backbone {self._name} takes no input of {height}x{width} ({' '.join(str(error).split()):.120}); "
                "choose another size, or a network that takes any"
            ) from error
        if self._traits.channels_last:
            features = [feature.permute(0, 3, 1, 2) for feature in features]
        if self._traits.rounds_down:
            shapes = pyramid_shapes(int(height), int(width), *self._levels)
            features = [feature[:, :, :rows, :columns] for feature, (rows, columns) in zip(features, shapes)]
        return features


def build_trunk(config: ModelConfig) -> tuple[nn.Module, nn.Module]:
    """Build what the heads stand on.

    Args:
        config: names backbone and pyramid.

    Returns:
        The backbone, from normalised ``(B, 3, H, W)`` images to a list of maps, and the pyramid, from these to one
        ``(B, fpn_width, H_l, W_l)`` map per level. SpineNet's maps are a pyramid already: its second part does nothing.

    Raises:
        ConfigError, WeightsError: as :class:`Backbone` and :class:`~tdtrack.model.spinenet.SpineNet` say.

    Source:
        Sec. 3.2; Tab. 5 for the pyramid without fusion.
    """
    if config.backbone in SPINENETS:
        return SpineNet(config), nn.Identity()
    backbone = Backbone(config)
    return backbone, FeaturePyramid(backbone.channels, config)


def _feature_info(body: nn.Module) -> FeatureInfo:
    """Return timm's table of the features a network gives."""
    return cast(FeatureInfo, body.feature_info)


@dataclass(frozen=True)
class _Traits:
    """What has to be known of a timm network.

    Attributes:
        stages: timm's indices of the deepest stages at the strides the pyramid takes from it.
        channels_last: its features are ``(B, H, W, C)``.
        rounds_down: of an input that its strides do not divide it leaves the border out, where convolutions round up.
        choosy: it takes inputs of some sizes only.
    """

    stages: tuple[int, ...]
    channels_last: bool
    rounds_down: bool
    choosy: bool


def _look_at(config: ModelConfig) -> _Traits:
    """Build a network without numbers, and look at its features."""
    name = config.backbone
    if not timm.is_model(split_model_name_tag(name)[0]):
        nearest = difflib.get_close_matches(name, [*SPINENETS, *timm.list_models()], n=1, cutoff=0)[0]
        raise ConfigError(
            f"model.backbone {name!r} is neither {' nor '.join(SPINENETS)} nor a timm model; the nearest name is {nearest!r}"
        )
    try:
        with torch.device("meta"):  # no memory, no random numbers drawn
            body = timm.create_model(name, features_only=True)
            strides = list(_feature_info(body).reduction())
    except (RuntimeError, AttributeError) as error:
        raise ConfigError(f"model.backbone {name!r} gives no feature maps ({error}); choose a convolutional network") from error
    wanted = [2**level for level in range(config.min_level, min(DEEPEST_LEVEL, config.max_level) + 1)]
    missing = [stride for stride in wanted if stride not in strides]
    if missing or not wanted:
        raise ConfigError(
            f"model.backbone {name!r} has features at strides {strides}, "
            f"levels {config.min_level}..{config.max_level} need {missing or 'one of them'}; "
            "choose another backbone or other levels"
        )
    channels_last = str(getattr(body, "output_fmt", "")).endswith("NHWC")
    sides = _sides_at(body, _PROBED, channels_last)
    return _Traits(
        stages=tuple(max(stage for stage, stride in enumerate(strides) if stride == want) for want in wanted),
        channels_last=channels_last,
        rounds_down=sides is not None and any(side < -(-_PROBED // stride) for side, stride in zip(sides, strides)),
        choosy=sides is None,
    )


def _sides_at(body: nn.Module, side: int, channels_last: bool) -> list[int] | None:
    """Return the side of each of a network's features for a square input; ``None`` where it does not take that."""
    try:
        with torch.device("meta"), torch.no_grad():
            features = body.eval()(torch.empty(1, 3, side, side))
    except (AssertionError, RuntimeError):
        return None
    return [int(feature.shape[1 if channels_last else 2]) for feature in features]
