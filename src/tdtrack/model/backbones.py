"""Backbones: SpineNet, and any timm network that gives features at the strides the pyramid needs."""

from __future__ import annotations

import difflib
from typing import cast

import timm
import torch
from timm.models import FeatureInfo, split_model_name_tag
from torch import Tensor, nn

from tdtrack.config import ModelConfig
from tdtrack.errors import ConfigError, WeightsError
from tdtrack.model.fpn import FeaturePyramid
from tdtrack.model.spinenet import SPINENETS, SpineNet

__all__ = ["DEEPEST_LEVEL", "Backbone", "build_trunk"]

DEEPEST_LEVEL = 5
"""Coarsest level taken from a backbone (stride 32); the pyramid adds the rest."""


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
        stages = _stages(config)
        try:
            self.body = timm.create_model(
                config.backbone, features_only=True, out_indices=tuple(stages), pretrained=config.pretrained
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
        """Return the features of each level, fine to coarse, of normalised ``(B, 3, H, W)`` images."""
        return list(self.body(images))


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


def _stages(config: ModelConfig) -> list[int]:
    """Return timm's indices of the deepest stages at the strides the pyramid takes from the backbone."""
    name = config.backbone
    if not timm.is_model(split_model_name_tag(name)[0]):
        nearest = difflib.get_close_matches(name, [*SPINENETS, *timm.list_models()], n=1, cutoff=0)[0]
        raise ConfigError(
            f"model.backbone {name!r} is neither {' nor '.join(SPINENETS)} nor a timm model; the nearest name is {nearest!r}"
        )
    try:
        with torch.device("meta"):  # only the table of strides is wanted: no memory, no random numbers drawn
            strides = list(_feature_info(timm.create_model(name, features_only=True)).reduction())
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
    return [max(stage for stage, stride in enumerate(strides) if stride == want) for want in wanted]
