"""The demo's whole path on a world of a few frames, and that a second run keeps what the first one made."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the demo needs the extra tdtrack[train]")
pytest.importorskip("trackeval", reason="the demo needs the extra tdtrack[eval]")

from rich.console import Console

from tdtrack import demo
from tdtrack.config import TeacherTrainConfig, TrainConfig
from tdtrack.data.walkers import WalkersConfig, World
from tdtrack.demo import run as stages

WORLD = {
    "reid_identities": 16,
    "reid_test_identities": 6,
    "crops_per_identity": 6,
    "detection_videos": 2,
    "detection_frames": 4,
}
WORLD |= {"validation_videos": 1, "validation_frames": 3, "sequences": 1, "sequence_frames": 12}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher_settings, model_settings = stages.teacher_settings, stages.model_settings

    def few_teacher_steps(world: World, out: Path, seed: int) -> TeacherTrainConfig:
        return replace(teacher_settings(world, out, seed), steps=3)

    def few_steps(world: World, out: Path, seed: int) -> TrainConfig:
        config = model_settings(world, out, seed)
        return replace(config, precision="32-true", optimizer=replace(config.optimizer, steps=4, warmup_steps=1))

    monkeypatch.setattr(stages, "WalkersConfig", lambda seed: WalkersConfig(seed=seed, **WORLD))  # type: ignore[arg-type]
    monkeypatch.setattr(stages, "teacher_settings", few_teacher_steps)
    monkeypatch.setattr(stages, "model_settings", few_steps)


def test_the_demo_ends_in_a_table_and_a_page_and_resumes(small: None, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    console = Console(record=True, width=120)
    result = demo.run_demo(out, seed=3, console=console)
    assert set(result.modes) == {"motion-only", "two-stage", "one-stage"}
    printed = console.export_text()
    assert "motion only" in printed and "one-stage (tdtrack)" in printed and "report.html" in printed

    saved = json.loads((out / "results.json").read_text())
    assert len(saved["seconds"]) == 5
    assert 0 <= saved["modes"]["one-stage"]["IDF1"] <= 1 and 0 < saved["teacher"]["mAP"] <= 1
    for mode in result.modes:
        kept = [".jsonl", ".mp4", ".txt"] if mode == "one-stage" else [".txt"]
        assert sorted(path.suffix for path in (out / "tracks" / mode).iterdir()) == kept
    page = (out / "report.html").read_text()
    assert "tracks/one-stage/walkers-01.mp4" in page and "training.png" in page
    assert (out / "training.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"

    made = {
        path: path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix in {".safetensors", ".parquet", ".mp4", ".jpg"}
    }
    assert len(made) > 20
    again = demo.run_demo(out, seed=3, console=Console(quiet=True))
    assert again.modes == result.modes
    assert made == {path: path.stat().st_mtime_ns for path in made}
