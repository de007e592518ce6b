"""A tiny data set that a detector learns in a minute: coloured figures on noise, and a teacher that sees their colour."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from tdtrack.config import AugmentConfig, DataSource, ModelConfig, OptimizerConfig, TrainConfig

DIM = 16
"""D_t of the colour teacher."""


def embed_colour(crop: np.ndarray) -> np.ndarray:
    """Unit vector that says which colour the middle of a crop has; like colours are close."""
    height, width = crop.shape[:2]
    middle = crop[height // 4 : height - height // 4, width // 4 : width - width // 4].reshape(-1, 3).mean(axis=0) / 255
    basis = np.random.default_rng(0).normal(size=(DIM, 3)) * 4
    phase = np.random.default_rng(1).uniform(0, 2 * np.pi, DIM)
    vector = np.cos(basis @ middle + phase)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def write_images(folder: Path, num_images: int, *, seed: int = 0, width: int = 192, height: int = 144, empty: int = 0) -> None:
    """Write ``folder/images/*.png`` and ``folder/annotations.json`` (COCO); the first ``empty`` images hold no figure."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for image_id in range(1, num_images + 1):
        picture = Image.fromarray(rng.integers(90, 140, (height, width, 3), dtype=np.uint8))
        draw = ImageDraw.Draw(picture)
        taken: list[tuple[int, int]] = []
        for _ in range(0 if image_id <= empty else int(rng.integers(1, 4))):
            h = int(rng.integers(36, 80))
            w = int(h * rng.uniform(0.35, 0.5))
            x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
            if any(x < right and left < x + w for left, right in taken):
                continue
            taken.append((x, x + w))
            colour = tuple(int(value) for value in rng.choice([20, 130, 240], 3))
            draw.rounded_rectangle((x, y, x + w - 1, y + h - 1), w // 3, fill=colour, outline=(0, 0, 0), width=2)
            annotation = {"id": len(annotations) + 1, "image_id": image_id, "category_id": 1, "iscrowd": 0}
            annotations.append(annotation | {"bbox": [x, y, w, h], "area": w * h})
        picture.save(folder / "images" / f"{image_id:04d}.png")
        images.append({"id": image_id, "file_name": f"{image_id:04d}.png", "width": width, "height": height})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    (folder / "annotations.json").write_text(json.dumps(content))


def write_store(folder: Path, name: str = "colour") -> DataSource:
    """Annotate the data set of a folder with the colour teacher; returns it as a training source."""
    from tdtrack.data import load_dataset
    from tdtrack.teacher import load_teacher
    from tdtrack.teacher.annotate import annotate

    source = DataSource(str(folder / "annotations.json"), str(folder / "images"), str(folder / f"{name}.parquet"))
    dataset = load_dataset(source.annotations, source.images)
    annotate(dataset, load_teacher(COLOUR_TEACHERS[name]), Path(source.store), progress=False)
    return source


def colour(crops: list[np.ndarray]) -> np.ndarray:
    return np.stack([embed_colour(crop) for crop in crops]) if len(crops) else np.zeros((0, DIM), np.float32)


def other_colour(crops: list[np.ndarray]) -> np.ndarray:
    return -colour(crops)


COLOUR_TEACHERS = {"colour": colour, "other_colour": other_colour}

TINY_MODEL = ModelConfig(
    backbone="mobilenetv4_conv_small_050",
    embedding_dim=8,
    max_level=5,
    fpn_width=32,
    subnet_depth=1,
    subnet_width=32,
    embedding_width=32,
    norm_momentum=0.1,
)


def tiny_config(
    out: Path, train: DataSource, validation: DataSource | None = None, *, steps: int = 6, **changes: object
) -> TrainConfig:
    """Settings of a run that takes a second or two."""
    optimizer = OptimizerConfig(
        learning_rate=0.02,
        warmup_learning_rate=0.001,
        warmup_steps=min(2, steps),
        steps=steps,
        batch_size=2,
        max_gradient_norm=10.0,
        ema_decay=0.9,
    )
    settings: dict[str, object] = {
        "out": str(out),
        "train": (train,),
        "validation": () if validation is None else (validation,),
        "input_height": 64,
        "input_width": 96,
        "accelerator": "cpu",
        "validate_every": 3,
        "checkpoint_every": 2,
        "log_every": 2,
        "model": TINY_MODEL,
        "augment": AugmentConfig(brightness=0.2, contrast=0.2),
        "optimizer": optimizer,
    }
    return TrainConfig(**(settings | changes))  # type: ignore[arg-type]
