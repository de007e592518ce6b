"""The joint model as a whole: what it is built of and what it promises about shapes, order and modes."""

from __future__ import annotations

import math

import pytest
import timm
import torch
from torch import nn

from tdtrack.config import DetectConfig, ModelConfig
from tdtrack.errors import ConfigError, ShapeError, WeightsError
from tdtrack.model import JointModel, weight_decay_groups
from tdtrack.model.anchors import pyramid_shapes
from tdtrack.model.heads import Subnet, per_anchor

SMALL = {"fpn_width": 16, "subnet_depth": 2, "subnet_width": 8, "embedding_width": 8, "embedding_dim": 6}


def tiny(**settings: object) -> JointModel:
    torch.manual_seed(0)
    return JointModel(ModelConfig(**{"backbone": "test_resnet", **SMALL, **settings}))  # type: ignore[arg-type]


@pytest.mark.parametrize(("min_level", "max_level"), [(3, 5), (2, 6), (4, 4), (5, 8)])
def test_other_pyramid_levels(min_level: int, max_level: int) -> None:
    model = tiny(min_level=min_level, max_level=max_level)
    predictions = model(torch.zeros(2, 3, 200, 264))
    assert predictions.level_shapes == pyramid_shapes(200, 264, min_level, max_level)
    predictions.class_logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.backbone.parameters())  # no stage is built in vain


def test_unknown_backbone_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"model\.backbone 'mobilenetv4_conv_smal' .* 'mobilenetv4_conv_small'"):
        tiny(backbone="mobilenetv4_conv_smal")


def test_backbone_without_the_strides_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"strides \[16, 16, 16\], levels 3\.\.7 need \[8, 32\]"):
        tiny(backbone="vit_tiny_patch16_224")
    with pytest.raises(ConfigError, match=r"levels 6\.\.7"):
        tiny(min_level=6)


def test_pretrained_weights_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def offline(name: str, pretrained: bool = False, **settings: object) -> nn.Module:
        if pretrained:
            raise OSError("the hub is out of reach")
        return create(name, **settings)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(
        WeightsError, match=r"test_resnet cannot be had \(the hub is out of reach\).*model\.pretrained to false"
    ):
        tiny(pretrained=True)


def test_batch_norm_has_the_papers_constants_everywhere() -> None:
    norms = [module for module in tiny().modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) > 30
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.003)}
    assert all(norm.affine for norm in norms)
    quick = [module for module in tiny(norm_momentum=0.1).modules() if isinstance(module, nn.BatchNorm2d)]
    assert {norm.momentum for norm in quick} == {0.1}


def test_heads_share_convolutions_and_not_norms() -> None:
    model = tiny()
    for subnet in (model.class_subnet, model.box_subnet):
        assert isinstance(subnet, Subnet)
        assert len(subnet.convs) == 2
        assert [len(norms) for norms in subnet.norms] == [2] * 5
    assert len(model.embedding_head.norms) == 5
    default = ModelConfig()
    assert (default.subnet_depth, default.subnet_width, default.embedding_width, default.fpn_width) == (4, 128, 256, 256)


def test_initial_scores_equal_the_prior() -> None:
    logits = tiny(classes=("a", "b", "c")).eval()(torch.rand(1, 3, 128, 128) * 255).class_logits
    torch.testing.assert_close(logits.sigmoid(), torch.full_like(logits, 0.01), rtol=0.05, atol=0)
    logits = tiny(class_prior=0.2).eval()(torch.rand(1, 3, 128, 128) * 255).class_logits
    assert float(logits.detach().mean()) == pytest.approx(math.log(0.2 / 0.8), abs=0.05)


def test_pyramid_follows_model_garden() -> None:
    pyramid = tiny().eval().pyramid
    features = [torch.randn(1, channels, size, size) for channels, size in zip((48, 192, 96), (16, 8, 4))]
    raw = list(pyramid.top_down({str(index): feature for index, feature in enumerate(features)}).values())
    level6 = pyramid.coarser[0](raw[2])
    level7 = pyramid.coarser[1](level6.relu())
    expected = [norm(level) for norm, level in zip(pyramid.norms, [*raw, level6, level7], strict=True)]
    for got, want in zip(pyramid(features), expected, strict=True):
        torch.testing.assert_close(got, want)


def test_rows_follow_the_anchor_order() -> None:
    level = torch.arange(2 * 12 * 3 * 4).reshape(2, 12, 3, 4)  # 3 slots of 4 numbers on 3x4 cells
    rows = per_anchor(level, 3)
    for b in range(2):
        for y in range(3):
            for x in range(4):
                for slot in range(3):
                    assert torch.equal(rows[b, (y * 4 + x) * 3 + slot], level[b, slot * 4 : slot * 4 + 4, y, x])


def test_bytes_and_floats_are_the_same_image() -> None:
    model = tiny().eval()
    images = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    torch.testing.assert_close(model(images).features, model(images.float()).features)
    grey = torch.tensor([123.675, 116.28, 103.53]).view(1, 3, 1, 1).expand(1, 3, 64, 96)
    torch.testing.assert_close((grey - model.pixel_mean) / model.pixel_std, torch.zeros(1, 3, 64, 96))


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(64, 96, 3\), expected \(B, 3, H, W\)"):
        tiny()(torch.zeros(64, 96, 3))


def test_one_small_image_cannot_train_but_can_be_looked_at() -> None:
    model = tiny()
    with pytest.raises(ShapeError, match="one image of 64x96 has a single cell at level 7"):
        model(torch.zeros(1, 3, 64, 96))
    model.eval()(torch.zeros(1, 3, 64, 96))


def test_dense_and_chosen_embeddings_agree_on_real_predictions() -> None:
    model = tiny().eval()
    nn.init.normal_(model.embedding_head.conv2.weight, std=0.1)
    predictions = model(torch.randint(0, 256, (2, 3, 75, 100), dtype=torch.uint8))
    anchors = len(predictions.anchors)
    image, anchor = torch.arange(2).repeat_interleave(anchors), torch.arange(anchors).repeat(2)
    dense = model.embed_dense(predictions).reshape(2 * anchors, -1)
    torch.testing.assert_close(model.embed_at(predictions, image, anchor), dense, rtol=1e-5, atol=1e-5)


def test_detect_runs_in_evaluation_mode_and_leaves_modes_alone() -> None:
    model = tiny()
    model.backbone.eval()  # someone froze the backbone's statistics
    before = {name: module.training for name, module in model.named_modules()}
    mean = model.pyramid.norms[0].running_mean.clone()
    found = model.detect(torch.rand(2, 3, 96, 96) * 255, DetectConfig(min_score=0.0))
    assert {name: module.training for name, module in model.named_modules()} == before
    assert torch.equal(model.pyramid.norms[0].running_mean, mean)
    assert not any(one.embedding.requires_grad for one in found)


def test_weight_decay_reaches_convolution_kernels_only() -> None:
    model = tiny()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, spared = ([names[id(parameter)] for parameter in group["params"]] for group in weight_decay_groups(model))
    assert sorted(decayed + spared) == sorted(names.values())
    assert all(dict(model.named_parameters())[name].ndim == 4 for name in decayed)
    assert all(dict(model.named_parameters())[name].ndim == 1 for name in spared)
    first, second = weight_decay_groups(model)
    assert "weight_decay" not in first
    assert second["weight_decay"] == 0.0
