"""The teacher networks against published sizes and costs, and against the same formulas written out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tdtrack.errors import WeightsError
from tdtrack.teacher import ARCHITECTURES
from tdtrack.teacher.osnet import _Block, _Gate
from tdtrack.teacher.weights import NETWORKS, build_network, fill_network, fitting_architecture, read_checkpoint, weights_hash

# torchreid's model zoo: parameters in millions, multiply-adds at 256x128 in thousand millions, and its own features' width
PUBLISHED = {
    "osnet_x1_0": (2.2, 0.98, 512),
    "osnet_x0_75": (1.3, 0.57, 512),
    "osnet_x0_5": (0.6, 0.27, 512),
    "osnet_x0_25": (0.2, 0.08, 512),
    "osnet_ibn_x1_0": (2.2, 0.98, 512),
    "osnet_ain_x1_0": (2.2, 0.98, 512),
    "osnet_ain_x0_75": (1.3, 0.57, 512),
    "osnet_ain_x0_5": (0.6, 0.27, 512),
    "osnet_ain_x0_25": (0.2, 0.08, 512),
    "resnet50": (23.5, 2.7, 2048),
    "resnet50_fc512": (24.6, 4.1, 512),
}


def test_the_light_list_names_what_can_be_built() -> None:
    assert tuple(NETWORKS) == ARCHITECTURES
    assert set(PUBLISHED) == set(ARCHITECTURES)


@pytest.mark.parametrize("name", PUBLISHED)
def test_size_and_cost_are_the_published_ones(name: str) -> None:
    with torch.device("meta"):
        network = build_network(name).eval()
        costs = []

        def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
            costs.append(output[0, 0].numel() * module.weight.numel() if output.ndim == 4 else module.weight.numel())

        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.register_forward_hook(count)
        features = network(torch.empty(2, 3, 256, 128))
    millions, thousand_millions, dim = PUBLISHED[name]
    assert features.shape == (2, dim) == (2, network.feature_dim)
    assert round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 1) == millions
    assert sum(costs) / 1e9 == pytest.approx(thousand_millions, abs=0.06)


def test_osnet_has_torchreids_exact_parameter_count() -> None:
    # torchreid prints 2,193,616: it counts a module once per call, and calls the gate of a block four times
    with torch.device("meta"):
        network = build_network("osnet_x1_0")
    total = sum(parameter.numel() for parameter in network.parameters())
    gates = sum(parameter.numel() for key, parameter in network.named_parameters() if ".gate." in key)
    assert total + 3 * gates == 2_193_616


def test_gate_is_its_convolutional_formula() -> None:
    torch.manual_seed(0)
    gate = _Gate(32)
    maps = torch.randn(3, 32, 5, 4)
    pooled = maps.mean(dim=(2, 3), keepdim=True)
    expected = torch.sigmoid(gate.fc2(F.relu(gate.fc1(pooled))))
    torch.testing.assert_close(gate(maps), expected)


@pytest.mark.parametrize(("ain", "norm"), [(False, "none"), (False, "after"), (True, "inside"), (True, "none")])
def test_block_is_four_gated_streams_and_a_shortcut(ain: bool, norm: str) -> None:
    torch.manual_seed(1)
    block = _Block(32, 64, ain=ain, norm=norm).eval()  # type: ignore[arg-type]
    maps = torch.randn(2, 32, 8, 6)
    names = ["conv2.0", "conv2.1", "conv2.2", "conv2.3"] if ain else ["conv2a", "conv2b", "conv2c", "conv2d"]
    squeezed = block.conv1(maps)
    gathered = torch.zeros_like(squeezed)
    for name in names:
        stream = block.get_submodule(name)(squeezed)
        gathered += stream * block.gate(stream)
    branch = block.conv3.conv(gathered)
    if norm == "inside":
        assert not list(block.conv3.bn.parameters())
        branch = block.IN(branch)
    else:
        branch = block.conv3.bn(branch)
    total = branch + block.downsample(maps)
    if norm == "after":
        total = block.IN(total)
    torch.testing.assert_close(block(maps), F.relu(total))


def test_receptive_fields_grow_with_the_stream() -> None:
    block = _Block(16, 64, ain=False, norm="none").eval()
    maps = torch.randn(1, 16, 21, 21, requires_grad=True)
    for depth, name in enumerate(("conv2a", "conv2b", "conv2c", "conv2d"), start=1):
        stream = block.get_submodule(name)
        with torch.no_grad():
            for parameter in stream.parameters():
                parameter.abs_()  # nothing may cancel or be cut by a ReLU
        (grad,) = torch.autograd.grad(stream(maps.abs())[0, :, 10, 10].sum(), maps)
        touched = torch.nonzero(grad[0].abs().sum(dim=0))
        assert (touched.amin(0).tolist(), touched.amax(0).tolist()) == ([10 - depth] * 2, [10 + depth] * 2)


@pytest.mark.parametrize("name", ["osnet_x0_5", "osnet_ibn_x1_0", "osnet_ain_x1_0", "resnet50_fc512"])
def test_weights_are_told_apart(name: str) -> None:
    with torch.device("meta"):
        weights = build_network(name).state_dict()
    assert fitting_architecture(weights) == name


def test_last_stride_doubles_the_last_map() -> None:
    shapes = {}
    for name in ("resnet50", "resnet50_fc512"):
        with torch.device("meta"):
            network = build_network(name).eval()
            network.layer4.register_forward_hook(lambda *args, name=name: shapes.update({name: tuple(args[2].shape[2:])}))
            network(torch.empty(1, 3, 256, 128))
    assert shapes == {"resnet50": (8, 4), "resnet50_fc512": (16, 8)}


def test_checkpoint_of_a_parallel_trainer_is_unwrapped(tmp_path: Path) -> None:
    network = build_network("osnet_x0_25")
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    state |= {"module.classifier.weight": torch.zeros(7, 512), "module.classifier.bias": torch.zeros(7)}
    path = tmp_path / "model.pth.tar-60"
    torch.save({"state_dict": state, "epoch": 60, "rank1": np.float64(0.5), "mAP": np.float32(0.25)}, path)
    weights, metadata = read_checkpoint(path)
    assert metadata == {"dropped_classifier": 7}
    assert not any("classifier" in key or key.startswith("module.") for key in weights)
    other = build_network("osnet_x0_25")
    assert weights_hash(other) != weights_hash(network)
    fill_network(other, "osnet_x0_25", weights, str(path))
    assert weights_hash(other) == weights_hash(network)


def test_weights_of_another_architecture_are_refused_by_name() -> None:
    weights = build_network("osnet_x0_5").state_dict()
    with pytest.raises(WeightsError) as caught:
        fill_network(build_network("osnet_x0_25"), "osnet_x0_25", weights, "half.pth")
    assert str(caught.value) == (
        "half.pth: does not fit osnet_x0_25: conv1.conv.weight has shape (32, 3, 7, 7), expected (16, 3, 7, 7); "
        "these weights fit osnet_x0_5"
    )


def test_missing_and_unexpected_keys_are_named() -> None:
    weights = build_network("osnet_x0_25").state_dict()
    cut = {key: value for key, value in weights.items() if key != "fc.0.bias"}
    with pytest.raises(WeightsError, match=r"fc\.0\.bias \(512,\) is missing; they fit none of osnet_x1_0"):
        fill_network(build_network("osnet_x0_25"), "osnet_x0_25", cut, "cut.pth")
    with pytest.raises(WeightsError, match=r"extra\.weight \(3,\) is unexpected"):
        fill_network(build_network("osnet_x0_25"), "osnet_x0_25", {**weights, "extra.weight": torch.zeros(3)}, "more.pth")


def test_step_counters_may_be_missing() -> None:
    network = build_network("osnet_x0_25")
    old = {key: value for key, value in network.state_dict().items() if "num_batches" not in key}
    assert fitting_architecture(old) == "osnet_x0_25"
    fill_network(build_network("osnet_x0_25"), "osnet_x0_25", old, "old.pth")


class _Surprise:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code ran while loading",)


@pytest.mark.parametrize("content", ["noise", "code", "list", "numbers"])
def test_files_that_hold_no_weights_are_refused(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.pth"
    if content == "noise":
        path.write_bytes(b"not a checkpoint at all")
    else:
        torch.save({"code": {"conv": _Surprise()}, "list": [torch.zeros(1)], "numbers": {"epoch": 3}}[content], path)
    with pytest.raises(WeightsError, match=r"bad\.pth(:| cannot be read as a checkpoint)"):
        read_checkpoint(path)
    assert capsys.readouterr().out == ""


def test_damaged_safetensors_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        read_checkpoint(tmp_path / "bad.safetensors")
    with pytest.raises(WeightsError, match="no such weights file"):
        read_checkpoint(tmp_path / "none.pth")
