"""Checkpoints in torchreid's layout load in full; known ones are found by name, or the message says what to fetch."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from tdtrack.cli import main
from tdtrack.errors import ConfigError, WeightsError
from tdtrack.teacher import ARCHITECTURES, load_teacher
from tdtrack.teacher.weights import NETWORKS, build_network, fill_network, read_checkpoint
from tdtrack.teacher.zoo import CHECKPOINTS, find_checkpoint

# What torchreid's published networks call their weights, written out from the papers' tables and not from our modules.
Shapes = dict[str, tuple[int, ...]]


def conv(name: str, *shape: int) -> Shapes:
    return {f"{name}.weight": shape}


def norm(name: str, channels: int, *, statistics: bool = True) -> Shapes:
    """Batch norm, or an instance norm, which keeps no statistics."""
    shapes: Shapes = {f"{name}.{part}": (channels,) for part in ("weight", "bias")}
    if statistics:
        shapes |= {f"{name}.{part}": (channels,) for part in ("running_mean", "running_var")} | {
            f"{name}.num_batches_tracked": ()
        }
    return shapes


def dense(name: str, outputs: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def osnet_block(name: str, inputs: int, outputs: int, style: str) -> Shapes:
    """``style``: plain, ibn (norm after the sum), ain (AIN's names) or ain-inside (and its norm instead of the branch's)."""
    mid = outputs // 4
    shapes = conv(f"{name}.conv1.conv", mid, inputs, 1, 1) | norm(f"{name}.conv1.bn", mid)
    for stream in range(4):
        for layer in range(stream + 1):
            if style.startswith("ain"):
                light = f"{name}.conv2.{stream}.layers.{layer}"
            else:
                light = f"{name}.conv2{'abcd'[stream]}" + (f".{layer}" if stream else "")
            shapes |= conv(f"{light}.conv1", mid, mid, 1, 1) | conv(f"{light}.conv2", mid, 1, 3, 3) | norm(f"{light}.bn", mid)
    for gate, (o, i) in {"fc1": (mid // 16, mid), "fc2": (mid, mid // 16)}.items():
        shapes |= {f"{name}.gate.{gate}.weight": (o, i, 1, 1), f"{name}.gate.{gate}.bias": (o,)}
    shapes |= conv(f"{name}.conv3.conv", outputs, mid, 1, 1)
    if style != "ain-inside":
        shapes |= norm(f"{name}.conv3.bn", outputs)
    if style in ("ibn", "ain-inside"):
        shapes |= norm(f"{name}.IN", outputs, statistics=False)
    if inputs != outputs:
        shapes |= conv(f"{name}.downsample.conv", outputs, inputs, 1, 1) | norm(f"{name}.downsample.bn", outputs)
    return shapes


def osnet(width: float, family: str, identities: int) -> Shapes:
    stem, *stages = (int(channels * width) for channels in (64, 256, 384, 512))
    styles = {
        "plain": [("plain", "plain")] * 3,
        "ibn": [("ibn", "ibn"), ("plain", "plain"), ("plain", "plain")],
        "ain": [("ain-inside", "ain-inside"), ("ain", "ain-inside"), ("ain-inside", "ain")],
    }[family]
    shapes = conv("conv1.conv", stem, 3, 7, 7) | norm("conv1.bn", stem, statistics=family == "plain")
    inputs = stem
    for stage, (outputs, pair) in enumerate(zip(stages, styles), start=2):
        shapes |= osnet_block(f"conv{stage}.0", inputs, outputs, pair[0])
        shapes |= osnet_block(f"conv{stage}.1", outputs, outputs, pair[1])
        if stage < 4:
            transition = f"pool{stage}.0" if family == "ain" else f"conv{stage}.2.0"
            shapes |= conv(f"{transition}.conv", outputs, outputs, 1, 1) | norm(f"{transition}.bn", outputs)
        inputs = outputs
    shapes |= conv("conv5.conv", inputs, inputs, 1, 1) | norm("conv5.bn", inputs)
    return shapes | dense("fc.0", 512, inputs) | norm("fc.1", 512) | dense("classifier", identities, 512)


def resnet50(fc: int | None, identities: int) -> Shapes:
    shapes = conv("conv1", 64, 3, 7, 7) | norm("bn1", 64)
    inputs = 64
    for stage, (blocks, width) in enumerate(zip((3, 4, 6, 3), (64, 128, 256, 512)), start=1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            shapes |= conv(f"{name}.conv1", width, inputs, 1, 1) | norm(f"{name}.bn1", width)
            shapes |= conv(f"{name}.conv2", width, width, 3, 3) | norm(f"{name}.bn2", width)
            shapes |= conv(f"{name}.conv3", 4 * width, width, 1, 1) | norm(f"{name}.bn3", 4 * width)
            if block == 0:
                shapes |= conv(f"{name}.downsample.0", 4 * width, inputs, 1, 1) | norm(f"{name}.downsample.1", 4 * width)
            inputs = 4 * width
    if fc is not None:
        shapes |= dense("fc.0", fc, inputs) | norm("fc.1", fc)
    return shapes | dense("classifier", identities, fc or inputs)


LISTINGS = {
    "osnet_x1_0": osnet(1.0, "plain", 4101),
    "osnet_x0_75": osnet(0.75, "plain", 4101),
    "osnet_x0_5": osnet(0.5, "plain", 1041),
    "osnet_x0_25": osnet(0.25, "plain", 1041),
    "osnet_ibn_x1_0": osnet(1.0, "ibn", 4101),
    "osnet_ain_x1_0": osnet(1.0, "ain", 4101),
    "osnet_ain_x0_75": osnet(0.75, "ain", 4101),
    "osnet_ain_x0_5": osnet(0.5, "ain", 4101),
    "osnet_ain_x0_25": osnet(0.25, "ain", 4101),
    "resnet50": resnet50(None, 4101),
    "resnet50_fc512": resnet50(512, 1041),
}


def state_dict(shapes: Shapes) -> dict[str, torch.Tensor]:
    """Distinct constants, stored once each however large their shape."""
    return {
        name: torch.tensor(0) if name.endswith("tracked") else torch.full((1,), 0.01 + index % 97 / 1e4).expand(shape)
        for index, (name, shape) in enumerate(shapes.items())
    }


@pytest.mark.parametrize("name", LISTINGS)
def test_torchreids_state_dict_fits_in_full(name: str, tmp_path: Path) -> None:
    assert set(LISTINGS) == set(ARCHITECTURES) == set(NETWORKS)
    shapes, path = LISTINGS[name], tmp_path / f"{name}.pth"
    saved = state_dict(shapes)
    torch.save(saved, path)
    weights, metadata = read_checkpoint(path)
    assert metadata == {"dropped_classifier": len(saved["classifier.weight"])}
    network = build_network(name)
    fill_network(network, name, weights, path.name)
    loaded = network.state_dict()
    assert {key: tuple(tensor.shape) for key, tensor in loaded.items()} == {
        key: shape for key, shape in shapes.items() if not key.startswith("classifier.")
    }
    assert all(torch.equal(tensor, saved[key]) for key, tensor in loaded.items())


def test_the_listing_is_that_of_a_real_checkpoint(shared_data: Path) -> None:
    real = torch.load(shared_data / "teachers" / "osnet_x0_25_msmt17.pth", map_location="cpu", weights_only=True)
    assert {name: tuple(tensor.shape) for name, tensor in real.items()} == LISTINGS["osnet_x0_25"]


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    torch.save(state_dict(LISTINGS["osnet_x0_25"]), tmp_path / "w.pth")
    teacher = load_teacher("osnet_x0_25", tmp_path / "w.pth", "cpu")
    assert teacher.remark == "w.pth: left out the classifier of 1041 training identities; features are all it takes"  # type: ignore[attr-defined]


def test_known_checkpoints_are_of_networks_we_build() -> None:
    assert len(CHECKPOINTS) >= 28
    for name, known in CHECKPOINTS.items():
        assert name.startswith(known.architecture) and known.architecture in ARCHITECTURES
        assert known.licence.startswith("MIT")
        assert re.fullmatch(r"([0-9a-f]{64})?", known.sha256)
    table3 = ("resnet50_msmt17_combineall", "osnet_x0_25_msmt17_combineall", "osnet_ain_x1_0_msmt17")
    assert [CHECKPOINTS[name].market_map for name in table3] == [22.8, 31.0, 43.3]  # as the paper prints them
    assert len({known.file for known in CHECKPOINTS.values()}) == len(CHECKPOINTS)


def test_a_known_checkpoint_is_found_by_name(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TDTRACK_WEIGHTS", str(shared_data / "teachers"))
    named = load_teacher("osnet_x0_25_msmt17", device="cpu")
    told = load_teacher("osnet_x0_25", shared_data / "teachers" / "osnet_x0_25_msmt17.pth", "cpu")
    assert named.fingerprint == told.fingerprint


def test_a_checkpoint_that_is_not_there_says_what_to_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TDTRACK_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError) as caught:
        load_teacher("osnet_ain_x1_0_msmt17")
    message = str(caught.value)
    for part in (str(tmp_path), CHECKPOINTS["osnet_ain_x1_0_msmt17"].file, "MODEL_ZOO", "osnet_ain_x1_0_msmt17.pth"):
        assert part in message
    (tmp_path / "osnet_ain_x1_0_msmt17.pth").write_bytes(b"cut short")
    with pytest.raises(WeightsError, match=rf"has SHA-256 {sha256(b'cut short').hexdigest()[:12]}\.\.\., the published"):
        find_checkpoint("osnet_ain_x1_0_msmt17")
    published = tmp_path / CHECKPOINTS["resnet50_msmt17"].file
    published.write_bytes(b"no checksum is known")
    assert find_checkpoint("resnet50_msmt17") == published
    with pytest.raises(ConfigError, match=r"is a trained network, but weights='w\.pth' was given too"):
        load_teacher("osnet_x0_25_msmt17", "w.pth")
    monkeypatch.delenv("TDTRACK_WEIGHTS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=re.escape(str(tmp_path / "tdtrack" / "weights"))):
        find_checkpoint("osnet_x1_0_msmt17")


def test_teachers_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TDTRACK_WEIGHTS", str(tmp_path))
    (tmp_path / "osnet_x1_0_duke.pth").touch()
    assert main(["teachers", "--architecture", "osnet_x1_0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    licences = [line for line in lines if line.startswith("licence: ")]
    assert len(licences) == 3 and "licence: MIT (torchreid); MSMT17: research only" in licences
    rows = {line.split()[0]: line.split()[1] for line in lines[1 : -1 - len(licences)]}
    assert rows == {
        name: "yes" if name == "osnet_x1_0_duke" else "no"
        for name, known in CHECKPOINTS.items()
        if known.architecture == "osnet_x1_0"
    }
    assert str(tmp_path) in lines[-1]
    assert main(["teachers", "--architecture", "vgg"]) == 2
