"""Every recipe is a training run: it parses, as a whole, into the settings that ``tdtrack train`` takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from jsonargparse import ArgumentParser

from tdtrack.config import DataSource, OptimizerConfig, TrainConfig
from tdtrack.data.formats import FORMATS

FOLDER = Path(__file__).resolve().parents[2] / "recipes"
RECIPES = sorted(FOLDER.glob("*.yaml"))


def parse(*paths: Path) -> TrainConfig:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(TrainConfig)
    parsed = parser.instantiate(parser.parse_args([word for path in paths for word in ("--config", str(path))]))
    settings = dict(vars(parsed))
    settings.pop("config")
    settings["train"] = settings["train"] or (DataSource("filled in by a script"),)
    return TrainConfig(**settings)


def test_all_recipes_are_found() -> None:
    names = {path.stem for path in RECIPES}
    assert {"paper-table1", "paper-benchmark", "paper-mot20-finetune", "laptop-people", "laptop-tiny"} <= names
    assert len(RECIPES) >= 5


def test_the_papers_training_data_are_parts_of_a_recipe() -> None:
    table1 = parse(FOLDER / "paper-table1.yaml", FOLDER / "data" / "base-train-set.yaml")
    benchmark = parse(FOLDER / "paper-benchmark.yaml", FOLDER / "data" / "benchmark-train-set.yaml")
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
    config = parse(path)
    assert config.out.startswith("runs/")
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    command = rf"tdtrack train --config recipes/{path.name}" if config.train[0].store else r"python benchmarks/\w+\.py"
    assert any(re.search(command, line) for line in header)


def test_the_papers_settings() -> None:
    table1, benchmark, finetune = (parse(FOLDER / f"paper-{name}.yaml") for name in ("table1", "benchmark", "mot20-finetune"))
    assert (table1.input_height, table1.input_width, table1.model.embedding_dim) == (608, 1088, 512)
    assert (table1.optimizer.batch_size, table1.optimizer.steps) == (16, 300_000)
    assert (benchmark.input_height, benchmark.input_width, benchmark.model.embedding_dim) == (1080, 1920, 128)
    assert (benchmark.optimizer.batch_size, benchmark.optimizer.steps) == (32, 200_000)
    assert (finetune.optimizer.batch_size, finetune.optimizer.steps, finetune.optimizer.learning_rate) == (16, 30_000, 0.015)
    assert finetune.init_from == benchmark.out
    assert finetune.model == benchmark.model
    for config in (table1, benchmark, finetune):
        assert config.model.backbone == "resnet34" and not config.model.pretrained
        assert config.model.norm_momentum == 0.003
        assert (config.optimizer.warmup_steps, config.optimizer.warmup_learning_rate) == (2000, 0.001)
        assert config.optimizer.weight_decay == 1e-4
        assert config.optimizer.max_gradient_norm == config.optimizer.ema_decay == 0
        assert (config.augment.min_scale, config.augment.max_scale, config.augment.flip) == (0.5, 2.0, 0.5)
    assert table1.optimizer == OptimizerConfig()
