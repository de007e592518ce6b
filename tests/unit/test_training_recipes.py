"""Every recipe is part of a command in its own header, and that command's settings parse; tables and recipes agree."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tdtrack.cli import VERBS
from tdtrack.cli.parsing import parse
from tdtrack.cli.reproduce_verbs import read_scale
from tdtrack.config import DataSource, OptimizerConfig, TrainConfig
from tdtrack.data.formats import FORMATS
from tdtrack.data.walkers import WalkersConfig
from tdtrack.reproduce import TABLES, paper_scale, walkers_scale
from tdtrack.reproduce.scale import apply_settings
from tdtrack.reproduce.tables import Row

FOLDER = Path(__file__).resolve().parents[2] / "recipes"
SCALES = sorted(FOLDER.glob("reproduce-*.yaml"))
RECIPES = sorted(set(FOLDER.glob("*.yaml")) - set(SCALES))
PLACEHOLDER = (DataSource("filled in"),)


def commands(path: Path, verb: str = "train --") -> list[list[str]]:
    """The words after ``tdtrack train`` of every such command in a recipe's header; or after another verb."""
    text = "\n".join(line.lstrip("#") for line in path.read_text().splitlines() if line.startswith("#")).replace("\\\n", " ")
    return [line.split()[2:] for line in map(str.strip, text.splitlines()) if line.startswith(f"tdtrack {verb}")]


def read(words: list[str]) -> TrainConfig:
    located = [str(FOLDER.parent / word) if word.startswith("recipes/") else word for word in words]
    settings = parse("train", VERBS["train"], [word for word in located if word != "..."])
    return TrainConfig(**{**settings, "train": settings["train"] or PLACEHOLDER})


def recipe(*names: str) -> TrainConfig:
    return read([word for name in names for word in ("--config", f"recipes/{name}.yaml")] + ["--out", "runs/x"])


def test_all_recipes_are_found() -> None:
    names = {path.stem for path in RECIPES}
    assert {"paper-table1", "paper-benchmark", "paper-mot20-finetune", "laptop-people", "laptop-tiny"} <= names
    assert {"walkers-table1", "walkers-table2", "walkers-mot20-finetune", "table5-mnet", "table6-64", "fig6-1"} <= names
    assert len(RECIPES) == 35
    assert [path.stem for path in SCALES] == ["reproduce-demo-world", "reproduce-resnet34", "reproduce-walkers"]


def test_the_papers_training_data_are_parts_of_a_recipe() -> None:
    table1 = recipe("paper-table1", "data/base-train-set")
    benchmark = recipe("paper-benchmark", "data/benchmark-train-set")
    names = ["ETH", "CityPersons", "Caltech", "MOT17", "CUHK-SYSU", "PRW"]
    assert [source.annotations.split("/")[1] for source in table1.train] == names
    assert table1.model.embedding_dim == 512, "the settings of the recipe stay"
    assert benchmark.train[:-1] == table1.train
    assert (benchmark.train[-1].annotations, benchmark.train[-1].box) == ("data/CrowdHuman/annotation_train.odgt", "full")
    assert benchmark.validation == table1.validation
    assert len({source.store for source in benchmark.train}) == 7
    for source in (*benchmark.train, *benchmark.validation):
        assert not source.split or any(source.split in layout.splits for layout in FORMATS.values())


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_parses_and_says_how_to_run_it(path: Path) -> None:
    found = commands(path)
    if not found:  # a script fills it in
        assert any(re.search(r"python benchmarks/\w+\.py", line) for line in path.read_text().splitlines())
        assert recipe(path.stem).train == PLACEHOLDER
        return
    for words in found:
        assert f"recipes/{path.name}" in words
        config = read(words)
        assert config.out.startswith("runs/") and config.train[0].store
    if path.stem.startswith(("paper-", "walkers-", "table", "fig")):
        header = " ".join(line.lstrip("# ") for line in path.read_text().splitlines() if line.startswith("#"))
        assert "Paper: " in header and "Ours: " in header


def test_the_papers_settings() -> None:
    table1, benchmark, finetune = (recipe(f"paper-{name}") for name in ("table1", "benchmark", "mot20-finetune"))
    assert (table1.input_height, table1.input_width, table1.model.embedding_dim) == (608, 1088, 512)
    assert (table1.optimizer.batch_size, table1.optimizer.steps) == (16, 300_000)
    assert (benchmark.input_height, benchmark.input_width, benchmark.model.embedding_dim) == (1080, 1920, 128)
    assert (benchmark.optimizer.batch_size, benchmark.optimizer.steps) == (32, 200_000)
    assert (finetune.optimizer.batch_size, finetune.optimizer.steps, finetune.optimizer.learning_rate) == (16, 30_000, 0.015)
    assert finetune.init_from == "runs/paper-benchmark"
    assert finetune.model == benchmark.model
    for config in (table1, benchmark, finetune):
        assert config.model.backbone == "resnet34" and not config.model.pretrained
        assert config.model.norm_momentum == 0.003
        assert (config.optimizer.warmup_steps, config.optimizer.warmup_learning_rate) == (2000, 0.001)
        assert config.optimizer.weight_decay == 1e-4
        assert config.optimizer.max_gradient_norm == config.optimizer.ema_decay == 0
        assert (config.augment.min_scale, config.augment.max_scale, config.augment.flip) == (0.5, 2.0, 0.5)
    assert table1.optimizer == OptimizerConfig()


# Row of a table -> recipe on top of a base, the paper's or the twin's; None is the base itself.
ROWS = {
    ("table1", "Two-stage"): "table1-two-stage",
    ("table1", "TDT-tracker"): None,
    ("table1", "TDT-tracker, normalised (ours)"): None,
    ("table1", "Two-stage on the TDT-tracker's boxes (ours)"): None,
    ("table3", "ResNet50"): "{world}-table3-resnet50",
    ("table3", "ON-Small"): "{world}-table3-on-small",
    ("table3", "ON-Large"): None,
    ("table5", "MNet"): "table5-mnet",
    ("table5", "MNet-FPN"): "table5-mnet-fpn",
    ("table5", "RNet34-FPN"): "table5-rnet34-fpn",
    ("table5", "RNet50-FPN"): "table5-rnet50-fpn",
    ("table6", "64"): "table6-64",
    ("table6", "128"): "table6-128",
    ("table6", "256"): "table6-256",
    ("table6", "512"): None,
    ("table6", "64 principal (ours)"): "table6-64-principal",
    ("fig6", "1: alpha_e 2"): "fig6-1",
    ("fig6", "2: alpha_e 2, twice as long"): "{world}-fig6-2",
    ("fig6", "3: alpha_e 10"): "fig6-3",
    ("fig6", "4: alpha_e 10, levels 2 to 6"): "fig6-4",
}


def planned(base: TrainConfig, row: Row) -> TrainConfig:
    config = apply_settings(base, row.settings)
    return replace(config, optimizer=replace(config.optimizer, steps=config.optimizer.steps * row.length))


@pytest.mark.parametrize("world", ["paper", "walkers"])
def test_rows_of_tables_and_recipes_are_the_same_settings(world: str) -> None:
    scale = paper_scale() if world == "paper" else walkers_scale()
    base = apply_settings(TrainConfig(out="", train=PLACEHOLDER), scale.train)
    rows = {(key, row.label): row for key, table in TABLES.items() for row in table.rows}
    assert set(ROWS) == {name for name in rows if name[0] not in ("table4", "fig5")}
    looked_at = ("model", "assign", "loss", "detect", "augment", "optimizer", "input_height", "input_width")
    for name, override in ROWS.items():
        parts = [f"{world}-table1"] + ([override.format(world=world)] if override else [])
        wanted, found = planned(base, rows[name]), recipe(*parts)
        for setting in looked_at:
            assert getattr(found, setting) == getattr(wanted, setting), (name, setting)
        store = Path(found.train[0].store).name
        assert any(
            word in store
            for word in {"ResNet50": ("resnet50",), "ON-Small": ("osnet_x0_25",)}.get(rows[name].teacher, ("osnet_ain",))
        )


def test_the_scale_recipes_against_the_default() -> None:
    demo_file, resnet_file, walkers_file = SCALES
    for path in (demo_file, walkers_file):  # YAML would take the last of two sections of one name
        sections = re.findall(r"^(\S.*?):", path.read_text(), re.M)
        assert [name for name in sections if not name.startswith("#")] == [
            "walkers",
            "teacher",
            "train",
            "tracker",
            "table_length",
        ]
    demo_world, walkers = (read_scale(str(path), paper_scale()) for path in (demo_file, walkers_file))
    found, wanted = walkers, walkers_scale()
    assert found.walkers == wanted.walkers
    base = TrainConfig(out="", train=PLACEHOLDER)
    precision = {"precision": wanted.train["precision"]}  # the machine's choice
    assert apply_settings(base, {**found.train, **precision}) == apply_settings(base, wanted.train)
    assert {name: found.teacher[name] for name in wanted.teacher} == wanted.teacher
    assert {name: found.tracker[name] for name in wanted.tracker} == wanted.tracker
    assert (found.teacher_steps, found.table_length) == (wanted.teacher_steps, wanted.table_length)
    assert demo_world.walkers == WalkersConfig()
    over_default = read_scale(str(demo_file), walkers_scale())
    assert over_default.train == {**demo_world.train, **precision}
    assert all(over_default.of(name) == table for name, table in TABLES.items()), "its tables train equally long"
    larger = read_scale(str(resnet_file), wanted)
    assert apply_settings(base, larger.train) == apply_settings(base, {**wanted.train, "model.backbone": "resnet34"})
    assert (larger.walkers, larger.table_length) == (wanted.walkers, wanted.table_length)
