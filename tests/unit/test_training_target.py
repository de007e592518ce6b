"""What a run learns of its teacher: fitted to the boxes that count, the same after resuming and in a fine-tuned model."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tdtrack.config import DataSource, TrainConfig
from tdtrack.model import load_model, read_teacher_target
from tdtrack.training import train
from tdtrack.training.samples import load_labelled_sets
from tdtrack.training.target import fit_target
from tdtrack.training.validate import evaluate_model
from training_world import DIM, tiny_config, write_images, write_store


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[DataSource]:
    folder = tmp_path_factory.mktemp("world")
    for name, seed in (("one", 0), ("two", 1)):
        write_images(folder / name, 5, seed=seed)
    return [write_store(folder / name) for name in ("one", "two")]


def with_directions(config: TrainConfig) -> TrainConfig:
    return replace(
        config,
        model=replace(config.model, embedding_target="pca"),
        optimizer=replace(config.optimizer, anchor_slots="shared"),
    )


def test_directions_are_those_of_all_boxes_of_all_sets(sources: list[DataSource]) -> None:
    sets = load_labelled_sets(sources, ("person",), 8, need_stores=True)
    rows = np.concatenate([item.store.lookup(item.dataset.annotation_id) for item in sets if item.store]).astype(np.float64)
    target = fit_target(sets, 8, "pca")
    assert np.allclose(target.mean, rows.mean(axis=0), atol=1e-6)
    values, vectors = np.linalg.eigh(np.cov(rows.T, bias=True))
    strongest = vectors[:, np.argsort(-values)[:8]]
    assert np.allclose(np.abs(strongest.T @ target.directions.numpy()), np.eye(8), atol=1e-4)


def test_centred_is_the_first_numbers_about_the_mean_of_all_boxes(sources: list[DataSource]) -> None:
    sets = load_labelled_sets(sources, ("person",), 8, need_stores=True)
    rows = np.concatenate([item.store.lookup(item.dataset.annotation_id) for item in sets if item.store]).astype(np.float64)
    learned = fit_target(sets, 8, "centred")(torch.from_numpy(rows)).numpy()
    assert np.allclose(learned, (rows - rows.mean(axis=0))[:, :8], atol=1e-6)


def test_a_centred_model_starts_with_the_papers_loss(sources: list[DataSource], tmp_path: Path) -> None:
    plain = replace(tiny_config(tmp_path / "first", sources[0]), log_every=1)
    centred = replace(plain, model=replace(plain.model, embedding_target="centred"), out=str(tmp_path / "centred"))
    losses = []
    for config in (plain, centred):
        model, _ = load_model(train(config, progress=False))
        with (Path(config.out) / "metrics.csv").open() as file:
            losses.append(float(next(csv.DictReader(file))["embedding_loss"]))
    assert losses[1] == pytest.approx(losses[0], rel=2e-3) and losses[0] > 0.01  # stores hold float16
    assert model.teacher_target is not None and torch.equal(model.teacher_target.directions, torch.eye(DIM, 8))


def test_a_model_that_learned_directions_is_measured_in_the_teachers_space(sources: list[DataSource], tmp_path: Path) -> None:
    config = with_directions(tiny_config(tmp_path / "run", sources[0], sources[1]))
    model, metadata = load_model(train(config, progress=False))
    assert model.teacher_target is not None and model.teacher_target.directions.shape == (DIM, 8)
    report = evaluate_model(tmp_path / "run", sources[1].annotations, sources[1].images, sources[1].store)
    assert report.mean_cosine == pytest.approx(metadata["validation"]["val_cosine"], abs=1e-6)
    assert "conv2.weight" in " ".join(model.state_dict()) and "original" not in " ".join(model.state_dict())


def test_a_fine_tuned_model_keeps_its_embedding_space(sources: list[DataSource], tmp_path: Path) -> None:
    first = train(with_directions(tiny_config(tmp_path / "first", sources[0])), progress=False)
    tuned = with_directions(tiny_config(tmp_path / "tuned", sources[1]))
    second = train(replace(tuned, init_from=str(first)), progress=False)
    before, after = read_teacher_target(first), read_teacher_target(second)
    assert before is not None and after is not None
    assert torch.equal(before.mean, after.mean) and torch.equal(before.directions, after.directions)
