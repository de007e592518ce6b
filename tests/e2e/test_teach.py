"""``teach`` on a tiny data set: one call gives a calibrated model, a second one changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

pytest.importorskip("torch", reason="training needs the extra tdtrack[train]")

from layouts import put
from tdtrack.cli import main
from tdtrack.config import TrainConfig
from tdtrack.data import load_dataset
from tdtrack.errors import DataError
from tdtrack.model import read_metadata
from tdtrack.teach import TeachData, laptop_settings, teach
from tdtrack.teacher import load_teacher
from training_world import COLOUR_TEACHERS, TINY_MODEL, write_images

SAID = SimpleNamespace(lines=lambda: ["done"])


def tiny_settings(out: Path) -> dict[str, object]:
    config = TrainConfig(out=str(out), train=(None,), input_height=96, input_width=128, model=TINY_MODEL)  # type: ignore[arg-type]
    settings = {name: getattr(config, name) for name in ("out", "input_height", "input_width", "model", "checkpoint_every")}
    optimizer = replace(config.optimizer, algorithm="adamw", learning_rate=1e-4, steps=6, warmup_steps=3, batch_size=2)
    return settings | {"optimizer": optimizer}


def test_teach_gives_a_calibrated_model_and_resumes_to_the_same(tmp_path: Path) -> None:
    write_images(tmp_path / "boxes", 20)
    data = TeachData(str(tmp_path / "boxes" / "annotations.json"), str(tmp_path / "boxes" / "images"))
    teacher = load_teacher(COLOUR_TEACHERS["colour"])
    result = teach(data, teacher, tiny_settings(tmp_path / "run"))
    assert result.report.num_images == 2, "every tenth of 20 images is held out"
    assert result.report.mean_cosine is not None
    appearance = read_metadata(result.model)["appearance"]
    assert len(appearance["cosine_statistics"]) == 4  # six iterations do not tell colours apart, the teacher does
    same, _, different, _ = appearance["teacher_cosine_statistics"]
    assert -1 <= different < same <= 1 + 1e-6
    assert 0 < appearance["max_appearance_cost"] < 2.2 and 0 < appearance["teacher_max_appearance_cost"] < 2.2
    before = result.model.read_bytes()
    assert teach(data, teacher, tiny_settings(tmp_path / "run")).model.read_bytes() == before
    assert any("tdtrack track" in line for line in result.lines())


@pytest.mark.parametrize("crowded", [False, True], ids=["nowhere", "in training"])
def test_images_of_one_box_each_are_no_reason_to_fail_at_the_end(crowded: bool, tmp_path: Path) -> None:
    write_images(tmp_path / "boxes", 20)
    file = tmp_path / "boxes" / "annotations.json"
    content = json.loads(file.read_text())
    boxes_of = [row["image_id"] for row in content["annotations"]]
    learned = [image["id"] for position, image in enumerate(content["images"]) if position % 10]  # every tenth is held out
    several = max(learned, key=boxes_of.count) if crowded else None
    first = {row["image_id"]: row for row in reversed(content["annotations"])}
    content["annotations"] = [
        row for row in content["annotations"] if row is first[row["image_id"]] or row["image_id"] == several
    ]
    file.write_text(json.dumps(content))
    result = teach(
        TeachData(str(file), str(tmp_path / "boxes" / "images")),
        load_teacher(COLOUR_TEACHERS["colour"]),
        tiny_settings(tmp_path / "run"),
    )
    assert bool(read_metadata(result.model)["appearance"]) == result.calibrated == crowded
    assert any("no image has two boxes" in line for line in result.lines()) != crowded


@pytest.mark.parametrize("recipe", ["light-320", "laptop-people"])
def test_a_whole_recipe_serves_with_data_in_place_of_its_own(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr("tdtrack.teacher.load_teacher", lambda *_, **__: None)
    monkeypatch.setattr("tdtrack.teach.teach", lambda data, teacher, settings: asked.update(settings, data=data) or SAID)
    path = Path(__file__).parents[2] / "recipes" / f"{recipe}.yaml"
    assert main(["teach", "boxes.json", "--teacher", "osnet_x0_25", "--config", str(path), "--out", "run"]) == 0
    written = yaml.safe_load(path.read_text())
    assert (asked["data"].data, asked["out"]) == ("boxes.json", "run")
    assert asked["optimizer"].steps == written["optimizer"]["steps"] and not {"train", "validation"} & set(asked)


def test_too_few_images_ask_for_validation_data(tmp_path: Path) -> None:
    write_images(tmp_path / "boxes", 1)
    data = TeachData(str(tmp_path / "boxes" / "annotations.json"), str(tmp_path / "boxes" / "images"))
    with pytest.raises(DataError, match="--val-data"):
        teach(data, load_teacher(COLOUR_TEACHERS["colour"]), tiny_settings(tmp_path / "run"))


def test_laptop_settings_are_the_recipe() -> None:
    recipe = yaml.safe_load((Path(__file__).parents[2] / "recipes" / "laptop-people.yaml").read_text())
    settings = laptop_settings()
    assert len(settings) == 27
    for name, value in settings.items():
        group, _, setting = name.rpartition(".")
        assert (recipe[group] if group else recipe)[setting] == value, name


def test_a_layout_with_parts_validates_on_the_part_that_is_named(tmp_path: Path) -> None:
    write_images(tmp_path / "boxes", 6)
    dataset = load_dataset(tmp_path / "boxes" / "annotations.json")
    for position, image in enumerate(dataset.images):
        part = "val" if position < 2 else "train"
        sides = [((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1) for x1, y1, x2, y2 in image.xyxy.tolist()]
        rows = [f"0 {x / image.width} {y / image.height} {w / image.width} {h / image.height}\n" for x, y, w, h in sides]
        put(tmp_path / "yolo" / "images" / part / image.path.name, image.path.read_bytes())
        put(tmp_path / "yolo" / "labels" / part / f"{image.path.stem}.txt", "".join(rows))
    data = put(tmp_path / "yolo" / "data.yaml", "train: images/train\nval: images/val\nnames: [person]\n")
    settings = tiny_settings(tmp_path / "run")
    result = teach(TeachData(str(data), val_split="val"), load_teacher(COLOUR_TEACHERS["colour"]), settings)
    assert result.report.num_images == 2
    assert read_metadata(result.model)["classes"] == ["person"]
