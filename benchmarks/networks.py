"""Networks with random weights (speed does not depend on them) in the engine that is compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from tdtrack.config import DetectConfig, ModelConfig
from tdtrack.model import JointModel
from tdtrack.runtime import contract
from tdtrack.runtime.export import build_model
from tdtrack.runtime.exported import Session, open_session

HEIGHT, WIDTH = 608, 1088
Embedding = Literal["lazy", "dense", "none"]


def forced(people: int) -> DetectConfig:
    """Settings under which exactly so many detections come out of a network with random weights."""
    return DetectConfig(min_score=1.0, max_detections=1) if people == 0 else DetectConfig(min_score=0.0, max_detections=people)


def session(
    folder: Path,
    engine: str,
    people: int,
    embedding: Embedding,
    dim: int,
    *,
    precision: str | None = None,
    backbone: str = "resnet34",
    seed: int = 0,
) -> Session:
    """Build, write and open one network."""
    torch.manual_seed(seed)
    model = JointModel(ModelConfig(backbone=backbone, embedding_dim=dim))
    built, _ = build_model(model, HEIGHT, WIDTH, metadata={}, detect=forced(people), batch=1, embedding=embedding)
    path = folder / f"{embedding}-{dim}-{people}.onnx"
    path.write_bytes(built.SerializeToString())
    return open_session(path, engine, device="cpu", precision=precision)


def runner(opened: Session, image: np.ndarray, people: int) -> Callable[[], None]:
    """Return a function that runs the network once and checks how many it found."""

    def run() -> None:
        found = int(opened.run(image)[contract.COUNT][0])
        if found != people:
            raise RuntimeError(f"{opened.label}: {found} detections, {people} were to be forced")

    return run


def random_image(seed: int = 0) -> np.ndarray:
    """Return one input."""
    return np.random.default_rng(seed).integers(0, 256, (1, HEIGHT, WIDTH, 3), dtype=np.uint8)
