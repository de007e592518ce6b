"""The embedding at chosen anchors equals the faithful dense head, in values and in gradients."""

from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tdtrack.config import ModelConfig
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
