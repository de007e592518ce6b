"""The declared tables against the paper's printed numbers, and the arithmetic of results."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="reproduce needs the extra tdtrack[train]")

import torch

from tdtrack.config import ModelConfig, TrainConfig
from tdtrack.errors import ConfigError, ShapeError
from tdtrack.output.bars import plot_bars
from tdtrack.reproduce.pages import bars, markdown
from tdtrack.reproduce.results import TableResult
from tdtrack.reproduce.scale import apply_settings, paper_scale, walkers_scale
from tdtrack.reproduce.tables import COLUMNS, TABLES
from tdtrack.training import pace
from training_world import TINY_MODEL, tiny_config

OURS = "64 principal (ours)"
# As the paper prints them, row by row: MOTA, IDF1, IDs, AP and, where there is one, FPS.
PRINTED = {
    "table1": "0.760 0.769 91 0.924 3.03 / 0.785 0.787 57 0.913 9.61",
    "table3": "0.754 0.764 76 0.902 / 0.763 0.766 76 0.911 / 0.785 0.787 57 0.913",
    "table5": "0.744 0.747 72 0.907 11.18 / 0.764 0.759 73 0.910 10.01 / 0.785 0.787 57 0.913 9.61 / 0.757 0.786 58 0.912 7.93",
    "table6": "0.739 0.772 67 0.902 13.34 / 0.773 0.782 55 0.908 11.82 / 0.762 0.777 63 0.910 10.76 /"
    " 0.785 0.787 57 0.913 9.61",
}


@pytest.mark.parametrize("key", PRINTED)
def test_numbers_are_those_the_paper_prints(key: str) -> None:
    printed = [[float(word) for word in row.split()] for row in PRINTED[key].split("/")]
    assert all(row.label.endswith(" (ours)") for row in TABLES[key].rows if not row.paper), "a row of ours says so"
    for row, numbers in zip([row for row in TABLES[key].rows if row.paper], printed, strict=True):
        names = ("MOTA", "IDF1", "IDSW", "AP", "fps")[: len(numbers)]
        assert [row.paper[name] for name in names] == numbers, row.label
    ratio = {"table1": 0.787 / 0.769, "table3": 0.785 / 0.754, "table5": 0.764 / 0.744, "table6": 0.981}[key]
    asked = TABLES[key].comparison
    first, second = (next(row for row in TABLES[key].rows if row.label == label) for label in (asked.first, asked.second))
    assert first.paper[asked.metric] / second.paper[asked.metric] == pytest.approx(ratio, abs=5e-4)


def test_a_scale_trains_single_tables_longer() -> None:
    scale = replace(walkers_scale(), table_length={"fig6": 3})
    assert [row.length for row in scale.of("fig6").rows] == [3, 6, 3, 3]
    assert replace(scale.of("fig6"), rows=TABLES["fig6"].rows) == TABLES["fig6"], "nothing else changes"
    assert scale.of("table6") == TABLES["table6"] == paper_scale().of("table6")
    with pytest.raises(ConfigError, match="there is no table 'table2'; choose one of table1, table3"):
        scale.of("table2")
    with pytest.raises(ConfigError, match="there is no table 'tabel1'"):
        replace(scale, table_length={"tabel1": 2}).of("fig6")
    with pytest.raises(ConfigError, match="table_length of fig6 is 0; it must be at least 1"):
        replace(scale, table_length={"fig6": 0}).of("fig6")


def test_every_row_is_a_training_that_can_be_built() -> None:
    assert list(TABLES) == ["table1", "table3", "table4", "table5", "table6", "fig5", "fig6"]
    assert sum(len(table.rows) for table in TABLES.values()) == 25
    base = apply_settings(TrainConfig(out="", train=tiny_config(Path("x"), None).train), paper_scale().train)  # type: ignore[arg-type]
    for table in TABLES.values():
        assert set(table.columns) <= set(COLUMNS)
        labels = [row.label for row in table.rows]
        assert len(set(labels)) == len(labels) and {table.comparison.first, table.comparison.second} <= set(labels)
        for row in table.rows:
            settings = {name: value for name, value in row.settings.items() if name != "loss.supervision"}
            assert isinstance(apply_settings(base, settings).model, ModelConfig)


def test_settings_go_where_their_names_say() -> None:
    config = tiny_config(Path("x"), None)  # type: ignore[arg-type]
    changed = apply_settings(config, {"model": TINY_MODEL, "model.embedding_dim": 5, "seed": 7, "optimizer.steps": 9})
    assert (changed.model.embedding_dim, changed.seed, changed.optimizer.steps) == (5, 7, 9)
    assert changed.model.fpn_width == TINY_MODEL.fpn_width
    assert apply_settings(config, {}) == config
    for name in ("model.bakbone", "modl.backbone", "seed.deep"):
        with pytest.raises(ConfigError, match=re.escape(name.rpartition(".")[2] if "bak" in name else name)):
            apply_settings(config, {name: 1})


def result(values: dict[str, list[float]]) -> TableResult:
    def one(value: float, label: str) -> dict[str, object]:
        numbers = dict.fromkeys(COLUMNS, value) | {"cosine": None if label == "512" else 0.5}
        return {**numbers, "sequences": {"walkers-01": dict.fromkeys(COLUMNS, value)}}

    return TableResult("table6", {label: [one(value, label) for value in seeds] for label, seeds in values.items()})


def test_means_deviations_and_ratio() -> None:
    measured = result({"64": [0.5, 0.7], "128": [0.6, 0.6], "256": [0.6, 0.6], "512": [0.8, 0.7], OURS: [0.6, 0.6]})
    row = TABLES["table6"].rows[0]
    number = measured.number(row, "IDF1")
    assert (number.mean, number.paper) == (pytest.approx(0.6), 0.772)
    assert number.deviation == pytest.approx(math.sqrt(((0.5 - 0.6) ** 2 + (0.7 - 0.6) ** 2) / 1))
    ours, paper = measured.ratio()
    assert (ours, paper) == (pytest.approx(0.6 / 0.75), pytest.approx(0.772 / 0.787))
    assert math.isnan(measured.number(TABLES["table6"].rows[3], "cosine").mean)
    page = markdown(measured)
    assert "| 64 | 60.0 ± 14.1 (73.9) | 60.0 ± 14.1 (77.2) |" in page
    assert "IDF1 of '64' over '512': 80.0 % (paper: 98.1 %)" in page and "2 seeds per row" in page
    assert result({row.label: [0.0] for row in TABLES["table6"].rows}).ratio()[0] is None


def test_bars_are_drawn(tmp_path: Path) -> None:
    measured = result({"64": [0.5, 0.7], "128": [0.6, 0.6], "256": [0.6, 0.6], "512": [0.8, 0.7], OURS: [0.6, 0.6]})
    labels, series = bars(measured)
    assert labels == ["64", "128", "256", "512", OURS] and series["IDF1"][3] == (pytest.approx(75.0), pytest.approx(7.0710678))
    assert plot_bars(labels, series, tmp_path / "bars.png", title="x").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with pytest.raises(ShapeError, match="AP has 1 values for 2 groups"):
        plot_bars(["a", "b"], {"AP": [(1.0, 0.0)]}, tmp_path / "bars.png")


def test_the_pace_of_training_is_that_of_a_whole_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([10.0, 17.0, 20.0, 23.0])  # seven seconds to get going, then three for two images
    monkeypatch.setattr(pace.time, "process_time", lambda: next(ticks))
    config = tiny_config(tmp_path, None)  # type: ignore[arg-type]
    config = apply_settings(config, {"optimizer.batch_size": 8, "accelerator": "cpu"})
    before = torch.get_rng_state()
    assert pace.seconds_per_iteration(config) == pytest.approx(3.0 / 2 * 8)
    assert torch.equal(torch.get_rng_state(), before)
    assert not list(tmp_path.iterdir())


def test_the_pace_of_half_precision_is_measured_too(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, None)  # type: ignore[arg-type]
    config = apply_settings(config, {"precision": "bf16-mixed", "accelerator": "cpu"})
    assert pace.seconds_per_iteration(config) > 0  # the losses run the embedding head: outside autocast that raises
