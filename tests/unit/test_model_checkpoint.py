"""The joint model on disk: what comes back, and what is refused with which words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tdtrack.config import ModelConfig
from tdtrack.errors import OutputError, WeightsError
from tdtrack.model import JointModel, load_model, load_weights, read_metadata, save_model

CONFIG = ModelConfig(
    backbone="test_resnet",
    classes=("person", "bag"),
    embedding_dim=6,
    fpn_width=16,
    subnet_depth=1,
    subnet_width=8,
    embedding_width=8,
    max_level=5,
    anchor_aspect_ratios=(0.4, 1.0),
)
METADATA = {"input": [608, 1088], "teacher": "osnet", "appearance": {"ceiling": 0.3}, "note": "größer ✓"}


@pytest.fixture
def model() -> JointModel:
    torch.manual_seed(0)
    return JointModel(CONFIG)


def test_a_model_comes_back_as_it_was(model: JointModel, tmp_path: Path) -> None:
    model(torch.rand(2, 3, 64, 64) * 255)  # moves the running statistics
    save_model(tmp_path / "run" / "model.safetensors", model, METADATA)
    for path in (tmp_path / "run", tmp_path / "run" / "model.safetensors", str(tmp_path / "run")):
        loaded, metadata = load_model(path)
        assert metadata == read_metadata(path) == METADATA
        assert loaded.config == CONFIG
        assert not loaded.training
        expected = model.state_dict()
        assert list(loaded.state_dict()) == list(expected)
        assert all(torch.equal(value, expected[key]) for key, value in loaded.state_dict().items())
    images = torch.rand(1, 3, 64, 64) * 255
    torch.testing.assert_close(loaded(images).class_logits, model.eval()(images).class_logits)


def test_a_file_holds_the_same_bytes_each_time(model: JointModel, tmp_path: Path) -> None:
    save_model(tmp_path / "a", model, METADATA)
    save_model(tmp_path / "b", model, METADATA)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_loading_a_pretrained_model_downloads_nothing(
    model: JointModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.config = replace(CONFIG, pretrained=True)
    save_model(tmp_path / "m.safetensors", model, {})
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    loaded, _ = load_model(tmp_path / "m.safetensors")
    assert loaded.config == CONFIG


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"embedding_dim": 4}, r"embedding_head\.conv2\.weight has shape \(36, 8, 3, 3\), the model expects \(24, 8, 3, 3\)"),
        ({"fpn_width": 24}, r"pyramid\.top_down\.inner_blocks\.0\.0\.weight has shape \(16, 48, 1, 1\), .* \(24, 48, 1, 1\)"),
        ({"subnet_depth": 2}, r"has no class_subnet\.convs\.1\.weight, the model expects it with shape \(8, 8, 3, 3\)"),
        ({"max_level": 4}, r"pyramid|backbone"),
        ({"backbone": "resnet10t"}, r"backbone\."),
    ],
)
def test_weights_of_another_architecture_name_the_first_difference(
    model: JointModel, tmp_path: Path, change: dict[str, object], words: str
) -> None:
    save_model(tmp_path / "m.safetensors", model, {})
    other = JointModel(replace(CONFIG, **change))  # type: ignore[arg-type]
    before = {key: value.clone() for key, value in other.state_dict().items()}
    with pytest.raises(WeightsError, match=words):
        load_weights(other, tmp_path / "m.safetensors")
    assert all(torch.equal(value, before[key]) for key, value in other.state_dict().items())


def test_a_weight_too_many_is_named(model: JointModel, tmp_path: Path) -> None:
    tensors = {key: value.contiguous() for key, value in model.state_dict().items()}
    safetensors.torch.save_file({**tensors, "extra.weight": torch.zeros(3, 2)}, tmp_path / "m.safetensors")
    with pytest.raises(WeightsError, match=r"holds extra\.weight with shape \(3, 2\), the model has no such weight"):
        load_weights(model, tmp_path / "m.safetensors")


def test_what_is_not_a_model_is_refused(model: JointModel, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nowhere does not exist; give a run folder or a \.safetensors file"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(WeightsError, match=r"holds no model\.safetensors"):
        load_model(tmp_path)
    (tmp_path / "text.safetensors").write_text("not weights at all, only words")
    with pytest.raises(WeightsError, match=r"text\.safetensors is damaged or not a safetensors file"):
        load_model(tmp_path / "text.safetensors")
    with pytest.raises(WeightsError, match=r"text\.safetensors is damaged or not a safetensors file"):
        load_weights(model, tmp_path / "text.safetensors")
    safetensors.torch.save_file({"conv.weight": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(WeightsError, match=r"foreign\.safetensors is not a tdtrack model"):
        load_model(tmp_path / "foreign.safetensors")


def test_a_file_cut_short_is_refused(model: JointModel, tmp_path: Path) -> None:
    save_model(tmp_path / "m.safetensors", model, {})
    whole = (tmp_path / "m.safetensors").read_bytes()
    (tmp_path / "m.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="damaged"):
        load_model(tmp_path / "m.safetensors")


def test_an_architecture_of_the_future_is_refused(tmp_path: Path) -> None:
    tensors = {"weight": torch.zeros(1)}
    header = '{"format": 1, "model": {"backbone": "test_resnet", "wormholes": 3}, "metadata": {}}'
    safetensors.torch.save_file(tensors, tmp_path / "new.safetensors", {"tdtrack": header})
    with pytest.raises(WeightsError, match="wormholes"):
        load_model(tmp_path / "new.safetensors")
    safetensors.torch.save_file(tensors, tmp_path / "newer.safetensors", {"tdtrack": '{"format": 7}'})
    with pytest.raises(WeightsError, match="has format 7, this version reads 1"):
        load_model(tmp_path / "newer.safetensors")
    for damaged in ("{", "[]", "{}"):
        safetensors.torch.save_file(tensors, tmp_path / "odd.safetensors", {"tdtrack": damaged})
        with pytest.raises(WeightsError, match="damaged 'tdtrack' header"):
            load_model(tmp_path / "odd.safetensors")


def test_a_place_that_cannot_be_written_is_named(model: JointModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file"):
        save_model(tmp_path / "file" / "m.safetensors", model, {})
