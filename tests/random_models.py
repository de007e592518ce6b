"""Joint models with random weights that detect something everywhere, and comparing what engines make of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tdtrack.boxes import iou
from tdtrack.config import ModelConfig
from tdtrack.model import JointModel, save_model
from tdtrack.types import Detections, Image

HEIGHT, WIDTH = 96, 160
SMALL: dict[str, Any] = {"fpn_width": 16, "subnet_depth": 1, "subnet_width": 16, "embedding_width": 24}
METADATA: dict[str, Any] = {
    "input_height": HEIGHT,
    "input_width": WIDTH,
    "appearance": {"max_appearance_cost": 0.3, "cosine_statistics": [0.9, 0.05, 0.3, 0.1]},
    "teacher": {"name": "colour", "fingerprint": "0" * 64, "dim": 512},
    "data": [{"name": "street", "fingerprint": "1" * 64, "licence": "CC BY 4.0"}],
    "licence": "CC BY 4.0",
    "version": "0.1.0",
}


def random_model(seed: int = 0, **settings: Any) -> JointModel:
    """Build a model whose norms, scores, boxes and embeddings all differ from place to place."""
    torch.manual_seed(seed)
    model = JointModel(ModelConfig(**{"backbone": "test_resnet", **SMALL, **settings})).eval()
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(norm.running_mean, -0.3, 0.3)
            torch.nn.init.uniform_(norm.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(norm.bias, 0.1, 0.4)
    heads = (model.class_subnet.last, model.box_subnet.last, model.embedding_head.conv1, model.embedding_head.conv2)
    for last in heads:
        torch.nn.init.normal_(last.weight, std=0.1)
    torch.nn.init.normal_(model.class_subnet.last.bias, mean=-1.0)
    with torch.no_grad():  # whatever the backbone gives, scores spread and boxes stay near their anchors
        predictions = model(torch.from_numpy(noise(seed, HEIGHT, WIDTH)).permute(2, 0, 1)[None])
        model.class_subnet.last.weight *= 1.5 / predictions.class_logits.std()
        model.box_subnet.last.weight *= 0.2 / predictions.box_codes.std()
    return model


def save_random_model(folder: Path, seed: int = 0, **settings: Any) -> Path:
    """Write one as a run folder."""
    save_model(folder / "model.safetensors", random_model(seed, **settings), METADATA)
    return folder


def noise(seed: int, height: int, width: int) -> Image:
    """Return a frame of smooth noise: structure at all scales, unlike any other seed's."""
    rng = np.random.default_rng(seed)
    frame = np.zeros((height, width, 3))
    for cell in (1, 8, 32):
        coarse = rng.uniform(0, 85, (-(-height // cell), -(-width // cell), 3))
        frame += np.kron(coarse, np.ones((cell, cell, 1)))[:height, :width]
    return frame.astype(np.uint8)


def assert_same(found: Detections, wanted: Detections, *, max_pixels: float = 0.5, min_cosine: float = 0.9999) -> None:
    """Every detection of one has its twin in the other; engines may swap rows of scores that are equal to rounding."""
    assert len(found) == len(wanted)
    same_class = found.class_id[None] == wanted.class_id[:, None]
    twin = np.where(same_class, iou(wanted.xyxy, found.xyxy), -1).argmax(axis=1)
    assert len(set(twin.tolist())) == len(wanted)
    np.testing.assert_array_equal(found.class_id[twin], wanted.class_id)
    np.testing.assert_allclose(found.xyxy[twin], wanted.xyxy, atol=max_pixels, rtol=0)
    np.testing.assert_allclose(found.score[twin], wanted.score, atol=1e-4, rtol=0)
    assert (np.diff(found.score) <= 0).all()
    if wanted.embedding is None or found.embedding is None:
        assert found.embedding is wanted.embedding is None
        return
    np.testing.assert_allclose(np.linalg.norm(found.embedding, axis=1), 1, atol=1e-5)
    assert ((found.embedding[twin] * wanted.embedding).sum(axis=1) >= min_cosine).all()
