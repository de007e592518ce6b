"""The embedding at chosen anchors equals the faithful dense head, in values and in gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from tdtrack.config import ModelConfig
from tdtrack.model import JointModel
from tdtrack.model.heads import EmbeddingHead

SHAPES = ((4, 6), (2, 3), (1, 2), (1, 1))  # every cell of the coarse levels lies at a border
CONFIG = ModelConfig(embedding_dim=5, embedding_width=7, fpn_width=4, anchor_scales=2, anchor_aspect_ratios=(0.5, 1.0))
NUM_ANCHORS = sum(h * w for h, w in SHAPES) * CONFIG.anchors_per_cell


def head(seed: int, channels_last: bool) -> EmbeddingHead:
    torch.manual_seed(seed)
    built = EmbeddingHead(len(SHAPES), CONFIG)
    torch.nn.init.normal_(built.conv2.weight, std=0.2)
    torch.nn.init.normal_(built.conv2.bias)
    return built.to(memory_format=torch.channels_last) if channels_last else built


def hidden_maps(seed: int, batch: int, channels_last: bool) -> list[torch.Tensor]:
    torch.manual_seed(seed + 1)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    maps = [torch.randn(batch, CONFIG.embedding_width, h, w).contiguous(memory_format=layout) for h, w in SHAPES]
    return [level.requires_grad_() for level in maps]


def gradients(
    embedded: torch.Tensor, weight: torch.Tensor, module: EmbeddingHead, maps: list[torch.Tensor]
) -> list[torch.Tensor]:
    return list(torch.autograd.grad((embedded * weight).sum(), [module.conv2.weight, module.conv2.bias, *maps]))


def check(module: EmbeddingHead, maps: list[torch.Tensor], image: torch.Tensor, anchor: torch.Tensor) -> None:
    chosen, dense = module.at(maps, image, anchor), module.dense(maps)[image, anchor]
    assert chosen.shape == (len(anchor), CONFIG.embedding_dim)
    torch.testing.assert_close(chosen, dense, rtol=1e-5, atol=1e-5)
    weight = torch.randn(chosen.shape)
    for got, want in zip(gradients(chosen, weight, module, maps), gradients(dense, weight, module, maps), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 1000), st.booleans(), st.lists(st.tuples(st.integers(0, 1), st.integers(0, NUM_ANCHORS - 1)), max_size=30)
)
def test_chosen_anchors_equal_dense(seed: int, channels_last: bool, chosen: list[tuple[int, int]]) -> None:
    rows = torch.tensor(chosen, dtype=torch.int64).reshape(-1, 2)
    check(head(seed, channels_last), hidden_maps(seed, 2, channels_last), rows[:, 0], rows[:, 1])


def test_every_anchor_of_every_level_equals_dense() -> None:
    image = torch.arange(2).repeat_interleave(NUM_ANCHORS)
    anchor = torch.arange(NUM_ANCHORS).repeat(2)
    check(head(0, True), hidden_maps(0, 2, True), image, anchor)


def test_gradients_are_the_same_to_the_bit_on_any_run() -> None:
    torch.manual_seed(0)
    module = EmbeddingHead(1, replace(CONFIG, embedding_width=64))
    torch.nn.init.normal_(module.conv2.weight, std=0.2)
    hidden = torch.randn(1, 64, 16, 16).contiguous(memory_format=torch.channels_last).requires_grad_()
    anchor = torch.randint(0, 16 * 16 * CONFIG.anchors_per_cell, (2000,))  # a crowd: patches overlap many times over
    image, weight = torch.zeros_like(anchor), torch.randn(2000, CONFIG.embedding_dim)
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        runs = [gradients(module.at([hidden], image, anchor), weight, module, [hidden]) for _ in range(8)]
    finally:
        torch.set_num_threads(threads)
    for other in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], other, strict=True))


def test_dense_is_laid_out_in_anchor_order() -> None:
    module, maps = head(3, False), hidden_maps(3, 1, False)
    dense = module.dense(maps)
    row = 0
    for level, (height, width) in zip(maps, SHAPES):
        outputs = module.conv2(level)
        for y in range(height):
            for x in range(width):
                for slot in range(CONFIG.anchors_per_cell):
                    channels = slice(slot * CONFIG.embedding_dim, (slot + 1) * CONFIG.embedding_dim)
                    torch.testing.assert_close(dense[0, row], outputs[0, channels, y, x])
                    row += 1
    assert row == NUM_ANCHORS


def unsettle(module: torch.nn.Module) -> None:
    """Give every norm statistics and shifts of its own, so that what lies beyond a border is not zero by luck."""
    for norm in module.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(norm.running_mean, -0.3, 0.3)
            torch.nn.init.uniform_(norm.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
            torch.nn.init.uniform_(norm.bias, 0.2, 0.6)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 1000), st.booleans(), st.lists(st.tuples(st.integers(0, 1), st.integers(0, NUM_ANCHORS - 1)), max_size=30)
)
def test_lazy_equals_dense_from_the_pyramid(seed: int, channels_last: bool, chosen: list[tuple[int, int]]) -> None:
    module = head(seed, channels_last)
    unsettle(module)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    features = [torch.randn(2, CONFIG.fpn_width, h, w).contiguous(memory_format=layout) for h, w in SHAPES]
    rows = torch.tensor(chosen, dtype=torch.int64).reshape(-1, 2)
    with torch.no_grad():
        dense = module.eval().dense(module(features))[rows[:, 0], rows[:, 1]]
        torch.testing.assert_close(module.lazily_at(features, rows[:, 0], rows[:, 1]), dense, rtol=1e-5, atol=1e-5)


BACKBONES = ("test_resnet", "resnet34", "resnet50", "mobilenetv1_100", "mobilenetv3_small_050", "mobilenetv4_conv_small")
NETWORKS = [{"backbone": name} for name in (*BACKBONES, "spinenet49s")]
NETWORKS += [{"backbone": "mobilenetv1_100", "pyramid": "lateral"}, *({"embedding_dim": dim} for dim in (1, 64, 128, 512))]
SMALL = {"backbone": "test_resnet", "embedding_dim": 16, "fpn_width": 32, "subnet_depth": 1, "subnet_width": 8}


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: "-".join(map(str, network.values())))
def test_lazy_equals_dense_at_every_anchor_of_a_whole_model(network: dict[str, Any]) -> None:
    config = ModelConfig(**{**SMALL, **network}, embedding_width=24)
    torch.manual_seed(config.embedding_dim)
    model = JointModel(config).eval()
    unsettle(model)
    torch.nn.init.normal_(model.embedding_head.conv1.weight, std=0.1)
    torch.nn.init.normal_(model.embedding_head.conv2.weight, std=0.1)
    with torch.no_grad():
        predictions = model(torch.randint(0, 256, (1, 3, 75, 100), dtype=torch.uint8))
        anchor = torch.arange(len(predictions.anchors))
        lazy = normalize(model.embed_at(predictions, torch.zeros_like(anchor), anchor), dim=1)
        dense = normalize(model.embed_dense(predictions)[0], dim=1)
    assert len(anchor) == 9 * (130 + 35 + 12 + 4 + 1)  # five levels, most cells of the coarse ones at a border
    assert (lazy - dense).abs().max() <= 1e-4
    assert (
        config.embedding_dim == 1 or (dense - dense[0]).abs().max() > 0.1
    )  # anchors differ: the comparison has something to compare
