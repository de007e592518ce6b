"""OSNet x0.25 with torchreid's published weights gives torchreid's features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tdtrack.teacher import crop_boxes, load_teacher


@pytest.fixture(scope="module")
def reference(shared_data: Path) -> tuple[list[np.ndarray], np.ndarray]:
    frozen = np.load(shared_data / "golden" / "osnet_x0_25_msmt17.npz")
    crops = []
    for sequence, frame, xyxy in zip(frozen["sequence"], frozen["frame"], frozen["xyxy"]):
        with Image.open(shared_data / "mot17-mini" / str(sequence) / "img1" / f"{frame:06d}.jpg") as picture:
            crops += crop_boxes(np.asarray(picture.convert("RGB")), xyxy[None].astype(np.float32))
    assert len(crops) == 21
    return crops, frozen["features"]


@pytest.mark.parametrize("suffix", [".pth", ".onnx"])
def test_features_equal_torchreids(suffix: str, shared_data: Path, reference: tuple[list[np.ndarray], np.ndarray]) -> None:
    crops, features = reference
    weights = shared_data / "teachers" / f"osnet_x0_25_msmt17{suffix}"
    teacher = load_teacher("osnet_x0_25", weights, "cpu") if suffix == ".pth" else load_teacher(weights, device="cpu")
    assert (teacher.dim, teacher.input_height, teacher.input_width) == (512, 256, 128)
    np.testing.assert_allclose(teacher.features(crops), features, rtol=0, atol=1e-4)  # type: ignore[attr-defined]
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(teacher.embed(crops), unit, rtol=0, atol=1e-5)


def test_architecture_is_told_from_the_checkpoint(shared_data: Path) -> None:
    weights = shared_data / "teachers" / "osnet_x0_25_msmt17.pth"
    named, told = load_teacher("osnet_x0_25", weights), load_teacher(weights)
    assert told.name == "osnet_x0_25"
    assert told.fingerprint == named.fingerprint
