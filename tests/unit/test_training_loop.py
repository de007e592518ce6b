"""A whole run: what it learns, what it leaves behind, what it refuses."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tdtrack.config import AugmentConfig, DataSource, DetectConfig, OptimizerConfig, TrainConfig
from tdtrack.data.dataset import AnnotatedImage
from tdtrack.errors import ConfigError, DataError, OutputError, StoreError, WeightsError
from tdtrack.evaluation.detection import average_precision
from tdtrack.model import Predictions, load_model
from tdtrack.runtime.engine import FittedFrame
from tdtrack.training import loop, train
from tdtrack.training import validate as validation
from tdtrack.training.samples import load_labelled_sets
from tdtrack.training.session import Session
from tdtrack.training.state import plain_settings
from tdtrack.training.validate import embedding_agreement, evaluate_model
from training_world import DIM, TINY_MODEL, tiny_config, write_images, write_store


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors on many threads spend their time waiting."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[DataSource, DataSource]:
    folder = tmp_path_factory.mktemp("world")
    write_images(folder / "train", 24, empty=1)
    write_images(folder / "val", 5, seed=1)
    return write_store(folder / "train"), write_store(folder / "val")


@pytest.fixture(scope="module")
def finished(world: tuple[DataSource, DataSource], tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    config = tiny_config(tmp_path_factory.mktemp("runs") / "run", *world)
    assert train(config, progress=False) == Path(config.out) / "model.safetensors"
    return config


def rows(config: TrainConfig) -> list[dict[str, str]]:
    with (Path(config.out) / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_its_folder(finished: TrainConfig) -> None:
    out = Path(finished.out)
    assert {path.name for path in out.iterdir()} == {
        "config.yaml",
        "metrics.csv",
        "tensorboard",
        "checkpoint.pt",
        "model.safetensors",
    }
    assert yaml.safe_load((out / "config.yaml").read_text()) == plain_settings(finished)
    assert [int(row["step"]) for row in rows(finished)] == [2, 3, 4, 6]
    assert [bool(row["loss"]) for row in rows(finished)] == [True, False, True, True]
    assert [bool(row["val_ap50"] and row["val_cosine"]) for row in rows(finished)] == [False, True, False, True]
    model, metadata = load_model(out)
    assert model.config == TINY_MODEL
    assert (metadata["input_height"], metadata["input_width"], metadata["classes"]) == (64, 96, ["person"])
    assert metadata["teacher"]["dim"] == DIM
    assert metadata["appearance"] == {}
    json.dumps(metadata)


def test_the_logged_loss_is_the_weighted_sum(finished: TrainConfig) -> None:
    factors = (finished.loss.class_weight, finished.loss.box_weight, finished.loss.embedding_weight)
    for row in rows(finished):
        if row["loss"]:
            parts = [float(row[f"{name}_loss"]) for name in ("class", "box", "embedding")]
            total = sum(factor * part for factor, part in zip(factors, parts))
            assert float(row["loss"]) == pytest.approx(total, rel=1e-5)


def test_the_final_model_is_what_was_validated(finished: TrainConfig) -> None:
    source = finished.validation[0]
    report = evaluate_model(finished.out, source.annotations, source.images, source.store, device="cpu")
    last = rows(finished)[-1]
    assert report.mean_cosine == pytest.approx(float(last["val_cosine"]), abs=1e-5)
    assert report.ap50 == pytest.approx(float(last["val_ap50"]), abs=1e-5)
    assert report.num_images == 5
    assert json.loads(json.dumps(report.to_dict()))["num_cosines"] == report.num_boxes
    assert any("cosine with teacher" in line for line in report.lines())
    model, _ = load_model(finished.out)
    sets = load_labelled_sets([source], model.config.classes, model.config.embedding_dim, need_stores=True)
    cosine = embedding_agreement(model, sets[0], finished.input_height, finished.input_width)
    assert float(cosine.mean()) == pytest.approx(report.mean_cosine)
    without = evaluate_model(finished.out, source.annotations, source.images, device="cpu")
    assert without.mean_cosine is None
    assert without.ap50 == report.ap50


def test_a_store_of_another_teacher_is_not_measured_against(finished: TrainConfig, tmp_path: Path) -> None:
    write_images(tmp_path / "val", 3, seed=1)
    source = write_store(tmp_path / "val", "other_colour")
    with pytest.raises(StoreError, match=r"other_colour.*annotate the data with the model's teacher"):
        evaluate_model(finished.out, source.annotations, source.images, source.store)


def test_a_finished_run_returns_at_once(finished: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "Session", None)
    assert train(finished, progress=False) == Path(finished.out) / "model.safetensors"
    with pytest.raises(ConfigError, match=r"model\.safetensors belongs to a run with seed 0, this one has 1"):
        train(replace(finished, seed=1), progress=False)


def test_seeds_differ_and_repeat(world: tuple[DataSource, DataSource], tmp_path: Path) -> None:
    weights = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        config = tiny_config(tmp_path / name, world[0], steps=2, seed=seed)
        weights.append(load_model(train(config, progress=False))[0].state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


def test_batches_without_boxes_train(world: tuple[DataSource, DataSource], tmp_path: Path) -> None:
    augment = AugmentConfig(min_scale=8.0, max_scale=9.0)  # most windows show background only
    config = tiny_config(tmp_path / "run", world[0], augment=augment, steps=8, log_every=1)
    train(config, progress=False)
    assert any(float(row["positives"]) == 0 for row in rows(config))


def test_training_starts_from_another_run(finished: TrainConfig, world: tuple[DataSource, DataSource], tmp_path: Path) -> None:
    optimizer = replace(finished.optimizer, learning_rate=0.0, warmup_learning_rate=0.0, steps=1, warmup_steps=0, ema_decay=0.0)
    config = replace(finished, out=str(tmp_path / "run"), init_from=finished.out, optimizer=optimizer, validation=())
    before, after = load_model(finished.out)[0], load_model(train(config, progress=False))[0]
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters()))
    with pytest.raises(WeightsError, match="embedding_head"):
        other = replace(config, out=str(tmp_path / "other"), model=replace(config.model, embedding_dim=4))
        train(other, progress=False)


def test_a_run_goes_on_with_the_target_it_learned(world: tuple[DataSource, DataSource], tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "pca", world[0], steps=1)
    pca = replace(config, model=replace(config.model, embedding_target="pca"))
    first = train(pca, progress=False)
    on = replace(pca, out=str(tmp_path / "on"), init_from=pca.out)
    again, before = (load_model(path)[0].teacher_target for path in (train(on, progress=False), first))
    assert again is not None and before is not None and torch.equal(again.directions, before.directions)
    centred = replace(on, out=str(tmp_path / "centred"), model=replace(config.model, embedding_target="centred"))
    with pytest.raises(ConfigError, match=r"embedding_target is centred, but .* learned pca"):
        train(centred, progress=False)


def test_mixed_precision_and_loader_processes(world: tuple[DataSource, DataSource], tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run", *world, precision="bf16-mixed", workers=1, steps=3)
    train(config, progress=False)
    assert float(rows(config)[-1]["loss"]) > 0


def test_hardware_that_is_not_there_is_reported(world: tuple[DataSource, DataSource], tmp_path: Path) -> None:
    for changes in ({"accelerator": "tpu"}, {"devices": 0}):
        with pytest.raises(ConfigError, match=r"cannot be used here .* set accelerator to auto"):
            train(tiny_config(tmp_path / "run", world[0], **changes), progress=False)


def test_a_run_folder_that_cannot_be_written_is_reported(world: tuple[DataSource, DataSource], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputError, match="file"):
        train(tiny_config(tmp_path / "file" / "run", world[0]), progress=False)


def test_divergence_is_reported(world: tuple[DataSource, DataSource], tmp_path: Path) -> None:
    optimizer = OptimizerConfig(learning_rate=1e12, warmup_steps=0, steps=20, batch_size=2)
    with pytest.raises(ConfigError, match=r"at iteration \d+, training has diverged; lower optimizer\.learning_rate"):
        train(tiny_config(tmp_path / "run", world[0], optimizer=optimizer, log_every=1), progress=False)


def test_data_that_changed_since_the_checkpoint_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "world", 4)
    config = tiny_config(tmp_path / "run", write_store(tmp_path / "world"))
    Session(config).save_checkpoint()
    write_images(tmp_path / "more", 5)
    for name in ("images", "annotations.json"):
        (tmp_path / "world" / name).rename(tmp_path / f"old-{name}")
        (tmp_path / "more" / name).rename(tmp_path / "world" / name)
    Path(config.train[0].store).unlink()
    write_store(tmp_path / "world")
    with pytest.raises(DataError, match="other boxes or embeddings"):
        train(config, progress=False)


def test_data_may_have_moved_since_the_checkpoint(
    world: tuple[DataSource, DataSource], finished: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(finished, out=str(tmp_path / "run"))
    with monkeypatch.context() as stopped:
        stopped.setattr(Session, "iterate", stop_at(Session.iterate, 3))
        with pytest.raises(KeyboardInterrupt):
            train(config, progress=False)
    here = Path(world[0].annotations).parent
    shutil.copytree(here, tmp_path / "moved")
    places = ("annotations", "images", "store")
    moved = {name: getattr(world[0], name).replace(str(here), str(tmp_path / "moved")) for name in places}
    train(replace(config, train=(replace(world[0], **moved),)), progress=False)
    assert rows(config) == rows(finished)
    with pytest.raises(ConfigError, match=r"train\[0\]\.annotations"):  # of the finished model only the places are known
        train(config, progress=False)


@pytest.mark.parametrize("at", [4, 6])  # on the way, and at the end
def test_a_validation_that_fails_costs_no_iteration(
    finished: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    optimizer = replace(finished.optimizer, steps=6)
    settings = {"optimizer": optimizer, "validate_every": 2, "log_every": 4, "checkpoint_every": 0}
    straight = replace(finished, out=str(tmp_path / "straight"), **settings)
    train(straight, progress=False)
    config = replace(straight, out=str(tmp_path / "run"))
    validate, iterate, done = Session.validate, Session.iterate, []

    def fails(session: Session) -> dict[str, float]:
        if session.run.step == at:
            raise DataError("a photo is truncated")
        return validate(session)

    def counted(session: Session, batch: object) -> None:
        done.append(session.run.step)
        iterate(session, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Session, "validate", fails)
    monkeypatch.setattr(Session, "iterate", counted)
    with pytest.raises(DataError, match="truncated"):
        train(config, progress=False)
    with (Path(config.out) / "metrics.csv").open("a") as file:  # a kill after the row and before the next checkpoint
        file.write(f"{at},1,1,1,1,1,1,1,1,1\n")
    monkeypatch.setattr(Session, "validate", validate)
    train(config, progress=False)
    assert done == list(range(6))
    for name in ("metrics.csv", "model.safetensors"):
        assert (Path(config.out) / name).read_bytes() == (Path(straight.out) / name).read_bytes()


def test_validation_sees_the_boxes_that_tracking_does() -> None:
    record = AnnotatedImage(
        1, Path("a"), 100, 50, np.array([1]), np.array([[10, 10, 30, 40]]), np.array([0]), np.array([False])
    )
    anchors = torch.tensor([[10.0, 60, 40, 95], [10.0, 10, 30, 40]])  # the first lies in the padding below the image
    predictions = Predictions(torch.tensor([[[3.0], [2.0]]]), torch.zeros(1, 2, 4), [], anchors, ())
    found = validation._detections(predictions, 0, record, 1.0, 100, 100, DetectConfig())
    fitted = FittedFrame(np.zeros((100, 100, 3), np.uint8), 1.0, 50, 100)
    tracked = fitted.detections(anchors.numpy(), np.array([0.95, 0.88], np.float32), np.array([0, 0]), None)
    np.testing.assert_array_equal(found.xyxy, tracked.xyxy)
    assert len(found) == 1 and average_precision([record], [found]).ap == 1.0


def stop_at(iterate: Callable[..., None], step: int) -> Callable[..., None]:
    """Return an ``iterate`` that asks for a stop in this iteration."""

    def stopping(session: Session, batch: object) -> None:
        if session.run.step == step - 1:
            os.kill(os.getpid(), signal.SIGINT)
        iterate(session, batch)

    return stopping


def test_ctrl_c_saves_and_the_same_call_goes_on(
    world: tuple[DataSource, DataSource], finished: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(finished, out=str(tmp_path / "run"), checkpoint_every=0)
    iterate = Session.iterate
    monkeypatch.setattr(Session, "iterate", stop_at(iterate, 3))
    with pytest.raises(KeyboardInterrupt, match="stopped after iteration 3, resumable"):
        train(config, progress=False)
    monkeypatch.setattr(Session, "iterate", iterate)
    train(config, progress=False)
    assert rows(config) == rows(finished)
    assert all(
        torch.equal(a, b) for a, b in zip(load_model(config.out)[0].parameters(), load_model(finished.out)[0].parameters())
    )
