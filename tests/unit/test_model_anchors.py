"""Anchors against the loops that define them."""

from __future__ import annotations

import math

import pytest
import torch

from tdtrack.config import ModelConfig
from tdtrack.model.anchors import cell_anchors, pyramid_anchors, pyramid_shapes

CPU = torch.device("cpu")


def loop_anchors(shapes: tuple[tuple[int, int], ...], config: ModelConfig) -> list[list[float]]:
    rows = []
    for level, (height, width) in enumerate(shapes, start=config.min_level):
        stride = 2**level
        for i in range(height):
            for j in range(width):
                for k in range(config.anchor_scales):
                    for ratio in config.anchor_aspect_ratios:
                        side = config.anchor_size * stride * 2 ** (k / config.anchor_scales)
                        w, h = side * math.sqrt(ratio), side / math.sqrt(ratio)
                        x, y = (j + 0.5) * stride, (i + 0.5) * stride
                        rows.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    return rows


def test_paper_input_has_124029_anchors() -> None:
    shapes = pyramid_shapes(608, 1088, 3, 7)
    assert shapes == ((76, 136), (38, 68), (19, 34), (10, 17), (5, 9))
    assert pyramid_anchors(shapes, ModelConfig(), CPU).shape == (124_029, 4)


@pytest.mark.parametrize(
    "config",
    [ModelConfig(), ModelConfig(min_level=2, max_level=4, anchor_scales=2, anchor_aspect_ratios=(2.0, 0.4), anchor_size=3.0)],
)
def test_anchors_equal_loops(config: ModelConfig) -> None:
    shapes = pyramid_shapes(150, 201, config.min_level, config.max_level)
    expected = torch.tensor(loop_anchors(shapes, config))
    torch.testing.assert_close(pyramid_anchors(shapes, config, CPU), expected)


def test_aspect_is_width_over_height_and_area_is_kept() -> None:
    cell = cell_anchors(8, ModelConfig())
    size = cell[:, 2:] - cell[:, :2]
    aspect = (size[:, 0] / size[:, 1]).reshape(3, 3)
    torch.testing.assert_close(aspect, torch.tensor([0.25, 0.5, 1.0], dtype=torch.float64).expand(3, 3))
    side = (size[:, 0] * size[:, 1]).sqrt().reshape(3, 3)
    expected = torch.tensor([32 * 2 ** (k / 3) for k in range(3)], dtype=torch.float64)
    torch.testing.assert_close(side, expected[:, None].expand(3, 3))
    assert size[0].tolist() == [16.0, 64.0]  # the smallest standing person of level 3


def test_anchors_first_asked_for_in_inference_mode_can_train_later() -> None:
    config = ModelConfig(anchor_size=4.125)  # a configuration no other test has put into the cache
    with torch.inference_mode():
        anchors = pyramid_anchors(((2, 2),), config, CPU)
    assert not anchors.is_inference()
    weight = torch.ones((), requires_grad=True)
    (anchors * weight).sum().backward()
