"""One contract for every backbone and pyramid, and SpineNet against its published size, cost and wiring."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tdtrack.config import AssignConfig, LossConfig, ModelConfig
from tdtrack.errors import ConfigError, ShapeError
from tdtrack.model import JointModel, Targets, compute_losses, weight_decay_groups
from tdtrack.model.anchors import pyramid_shapes
from tdtrack.model.fpn import FeaturePyramid
from tdtrack.model.heads import Subnet
from tdtrack.model.spinenet import _NODES, SpineNet, _all_parents

NARROW = {"fpn_width": 16, "subnet_depth": 1, "subnet_width": 8, "embedding_width": 8, "embedding_dim": 6}
PAPER = {  # Tab. 5's rows, Sec. 3.2's SpineNet
    "MNet": ("mobilenetv1_100", "lateral"),
    "MNet-FPN": ("mobilenetv1_100", "fpn"),
    "RNet34-FPN": ("resnet34", "fpn"),
    "RNet50-FPN": ("resnet50", "fpn"),
    "SpineNet-49": ("spinenet49", "fpn"),
    "SpineNet-49S": ("spinenet49s", "fpn"),
}
OTHERS = {
    name: (name, "fpn")
    for name in (
        *("mobilenetv4_conv_small_050", "mobilenetv3_small_100", "test_resnet", "test_efficientnet"),
        "test_convnext",  # cuts patches and drops what is left over
        "mambaout_femto",  # gives its features channels-last
    )
}


def build(backbone: str, pyramid: str = "fpn", **settings: object) -> JointModel:
    torch.manual_seed(0)
    return JointModel(ModelConfig(**{**NARROW, "backbone": backbone, "pyramid": pyramid, **settings}))  # type: ignore[arg-type]


@pytest.mark.parametrize("row", [*PAPER, *OTHERS])
def test_every_backbone_keeps_the_contract(row: str) -> None:
    model = build(*(PAPER | OTHERS)[row])
    height, width = 150, 201  # divisible by no stride, so that every level must round up alike
    images = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8)

    predictions = model(images)
    shapes = pyramid_shapes(height, width, 3, 7)
    anchors = 9 * sum(h * w for h, w in shapes)
    assert predictions.level_shapes == shapes
    assert [tuple(hidden.shape) for hidden in predictions.features] == [(2, model.config.fpn_width, h, w) for h, w in shapes]
    assert predictions.class_logits.shape == (2, anchors, 1)
    assert predictions.box_codes.shape == (2, anchors, 4)

    # Lazy and dense embeddings are the same numbers.
    image, anchor = torch.tensor([0, 1, 1, 0]), torch.tensor([0, anchors - 1, anchors // 2, 17])
    chosen, dense = model.embed_at(predictions, image, anchor), model.embed_dense(predictions)[image, anchor]
    torch.testing.assert_close(chosen, dense, rtol=1e-5, atol=1e-5)

    # One training step reaches every weight, lowers the loss on the same batch, and leaves nothing that is not finite.
    boxes = [torch.tensor([[20.0, 20.0, 60.0, 110.0]]), torch.tensor([[90.0, 30.0, 140.0, 130.0]])]
    marks = [torch.zeros(1, dtype=torch.int64)] * 2, [torch.zeros(1, dtype=torch.bool)] * 2
    targets = Targets(boxes, *marks, [torch.full((1, 6), 0.4)] * 2)
    optimizer = torch.optim.SGD(weight_decay_groups(model), lr=1e-4)
    first = compute_losses(model, predictions, targets, AssignConfig(), LossConfig())
    first.total.backward()
    missed = [name for name, weight in model.named_parameters() if weight.grad is None]
    assert not missed
    optimizer.step()
    again = compute_losses(model, model(images), targets, AssignConfig(), LossConfig())
    assert torch.isfinite(again.total)
    assert float(again.total.detach()) < float(first.total.detach())


def test_mnet_differs_from_mnet_fpn_in_the_fusion_alone() -> None:
    fused, plain = build("mobilenetv1_100"), build("mobilenetv1_100", "lateral")
    assert fused.pyramid.lateral is None
    assert plain.pyramid.top_down is None
    for model in (fused, plain):
        del model.pyramid.top_down, model.pyramid.lateral
    shapes = [{name: weight.shape for name, weight in model.state_dict().items()} for model in (fused, plain)]
    assert shapes[0] == shapes[1]


def test_lateral_levels_do_not_see_coarser_ones() -> None:
    channels = [5, 7, 9]
    pyramid = FeaturePyramid(channels, ModelConfig(**NARROW, pyramid="lateral")).eval()  # type: ignore[arg-type]
    features = [torch.randn(1, count, size, size) for count, size in zip(channels, (16, 8, 4))]
    levels = pyramid(features)
    for level, feature, conv, norm in zip(levels, features, pyramid.lateral, pyramid.norms):
        weights = conv.weight[:, :, 0, 0]
        by_hand = torch.einsum("oc,bchw->bohw", weights, feature) + conv.bias[:, None, None]
        torch.testing.assert_close(level, norm(by_hand))
    level6 = pyramid.coarser[0](pyramid.lateral[2](features[2]))
    torch.testing.assert_close(levels[3], pyramid.norms[3](level6))
    torch.testing.assert_close(levels[4], pyramid.norms[4](pyramid.coarser[1](level6.relu())))
    fused = FeaturePyramid(channels, ModelConfig(**NARROW)).eval()  # type: ignore[arg-type]
    before = fused(features)[0]
    features[2] += 1
    assert not torch.equal(fused(features)[0], before)
    assert torch.equal(pyramid(features)[0], levels[0])


def test_retinanet_spinenet_49_has_the_published_size_and_cost() -> None:
    # Du et al., Tab. 2: 28.5 million parameters, 85.4 thousand million multiply-adds at 640x640; COCO's 90 classes, 9 anchors
    config = ModelConfig(backbone="spinenet49", subnet_width=256, classes=tuple(f"class {index}" for index in range(90)))
    costs: list[int] = []

    def count(module: nn.Conv2d, _: object, output: torch.Tensor) -> None:
        costs.append(output[0, 0].numel() * module.weight.numel())

    with torch.device("meta"):
        detector = nn.ModuleList([SpineNet(config), Subnet(5, 9 * 90, 0.0, config), Subnet(5, 9 * 4, 0.0, config)]).eval()
        for module in detector.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(count)
        levels = detector[0](torch.empty(1, 3, 640, 640))
        for subnet in detector[1:]:
            subnet(levels)
    assert [tuple(level.shape) for level in levels] == [(1, 256, size, size) for size in (80, 40, 20, 10, 5)]
    assert sum(weight.numel() for weight in detector.parameters()) / 1e6 == pytest.approx(28.5, abs=0.05)
    assert sum(costs) / 1e9 == pytest.approx(85.4, rel=0.005)


def test_spinenet_is_wired_as_published() -> None:
    drawn = {level: sum(node.level == level for node in _NODES) for level in range(2, 8)}
    assert drawn == {2: 4, 3: 2, 4: 4, 5: 4, 6: 2, 7: 2} and len(_NODES) == 18
    assert sorted(node.level for node in _NODES if node.output) == [2, 3, 4, 5, 6, 7]
    parents = _all_parents()
    assert all(max(sources) < index for index, sources in parents.items())  # no cycles
    used = {source for sources in parents.values() for source in sources}
    dead_ends = {index for index in range(len(_NODES)) if index not in used}
    assert all(_NODES[index].output for index in dead_ends)  # no block's work is lost
    assert parents[14] == (7, 12, 11)  # level 5 also takes block 11, which no one else does


def test_spinenet_builds_only_what_its_levels_need() -> None:
    full, cut = build("spinenet49s"), build("spinenet49s", max_level=5)
    assert "17" not in full.backbone.blocks  # level 2, which nothing asks for
    assert len(cut.backbone.blocks) < len(full.backbone.blocks)
    assert cut(torch.zeros(2, 3, 128, 160)).level_shapes == pyramid_shapes(128, 160, 3, 5)


def test_what_spinenet_cannot_do_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'spinenet49' has levels 2\.\.7, not 8; lower model\.max_level"):
        build("spinenet49", max_level=8)
    with pytest.raises(ConfigError, match=r"'spinenet49s' has no ImageNet weights; set model\.pretrained to false"):
        build("spinenet49s", pretrained=True)
    with pytest.raises(ConfigError, match=r"'spinenet96' is neither spinenet49 nor spinenet49s nor a timm model.*'spinenet49'"):
        build("spinenet96")
    with pytest.raises(ConfigError, match=r"model\.pyramid is 'bifpn'; it must be 'fpn' or 'lateral'"):
        build("test_resnet", "bifpn")


def test_a_network_of_fixed_size_says_so() -> None:
    model = build("efficientformerv2_s0").eval()
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 224, 224)).level_shapes == pyramid_shapes(224, 224, 3, 7)
        with pytest.raises(ShapeError, match=r"backbone efficientformerv2_s0 takes no input of 96x128 .*; choose another size"):
            model(torch.zeros(1, 3, 96, 128))
