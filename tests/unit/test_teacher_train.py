"""Training a teacher: it learns, resumes to the bit, and describes itself."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

import tdtrack.teacher.train as module
from tdtrack.config import TeacherTrainConfig
from tdtrack.errors import ConfigError, DataError
from tdtrack.teacher import load_teacher
from tdtrack.teacher.train import evaluate_reid, train_teacher
from tdtrack.version import __version__


@pytest.fixture(autouse=True)
def one_thread() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """People in two colours, above and below, seen by two cameras of different brightness; test people are others."""
    root = tmp_path_factory.mktemp("reid")
    generator = np.random.default_rng(0)
    for person in range(12):
        clothes = generator.integers(20, 236, (2, 3))
        for camera, light in ((1, 1.0), (2, 0.6)):
            for index in range(4):
                picture = np.repeat(clothes, 16, axis=0)[:, None] * light + generator.normal(0, 12, (32, 16, 3))
                part = "bounding_box_train" if person < 8 else ("query" if camera == 1 and index == 0 else "bounding_box_test")
                (root / part).mkdir(exist_ok=True)
                image = Image.fromarray(picture.clip(0, 255).astype(np.uint8))
                image.save(root / part / f"{person:04d}_c{camera}s1_{index:06d}_00.png")
    return root


@pytest.fixture
def config(crops: Path, tmp_path: Path) -> TeacherTrainConfig:
    return TeacherTrainConfig(
        crops=str(crops),
        out=str(tmp_path / "teacher.safetensors"),
        crop_height=32,
        crop_width=16,
        steps=6,
        identities_per_batch=4,
        crops_per_identity=2,
        checkpoint_every=2,
    )


def test_a_teacher_learns_and_describes_itself(config: TeacherTrainConfig, crops: Path) -> None:
    out = train_teacher(replace(config, steps=60, identities_per_batch=8, crops_per_identity=4, erase=0.0), progress=False)
    assert out == Path(config.out)
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    with safe_open(out, framework="pt") as file:
        metadata = json.loads(file.metadata()["tdtrack"])
    assert metadata["version"] == __version__
    assert (metadata["architecture"], metadata["dim"], metadata["identities"]) == ("osnet_x0_25", 512, 8)
    teacher = load_teacher(out)
    assert (teacher.input_height, teacher.input_width) == (32, 16)
    quality = evaluate_reid(teacher, crops)
    assert quality["mAP"] > 0.7  # by chance 0.35


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("stops", [[3], [1, 4, 5]])
def test_a_stopped_and_resumed_training_equals_an_undisturbed_one(
    stops: list[int], config: TeacherTrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = train_teacher(replace(config, out=str(tmp_path / "undisturbed.safetensors")), progress=False)
    learn = module._Trainer.step
    for stop in stops:

        def interrupted(self: module._Trainer, step: int, stop: int = stop) -> float:
            if step == stop:
                raise StoppedError
            return learn(self, step)

        monkeypatch.setattr(module._Trainer, "step", interrupted)
        torch.manual_seed(stop)  # the caller's random state must not matter
        with pytest.raises(StoppedError):
            train_teacher(config, progress=False)
        assert not Path(config.out).exists()
    monkeypatch.setattr(module._Trainer, "step", learn)
    resumed = train_teacher(config, progress=False)
    assert resumed.read_bytes() == undisturbed.read_bytes()
    assert not list(resumed.parent.glob("*.checkpoint"))


def test_checkpoints_hold_nothing_but_weights_and_numbers(config: TeacherTrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise StoppedError

    monkeypatch.setattr(module, "_write_teacher", failing)
    with pytest.raises(StoppedError):
        train_teacher(config, progress=False)
    (checkpoint,) = Path(config.out).parent.glob("*.checkpoint")
    assert torch.load(checkpoint, weights_only=True)["step"] == 4
    with pytest.raises(ConfigError, match=r"\.checkpoint: was made with seed 0, not 1; remove it"):
        train_teacher(replace(config, seed=1), progress=False)
    checkpoint.write_bytes(b"noise")
    with pytest.raises(ConfigError, match=r"\.checkpoint: not a readable checkpoint"):
        train_teacher(config, progress=False)


def test_a_finished_teacher_is_kept_and_another_is_not_overwritten(config: TeacherTrainConfig) -> None:
    short = replace(config, steps=1)
    out = train_teacher(short, progress=False)
    content = out.read_bytes()
    assert train_teacher(replace(short, checkpoint_every=7), progress=False).read_bytes() == content
    with pytest.raises(ConfigError, match=r"teacher\.safetensors: was made with steps 1, not 2"):
        train_teacher(replace(short, steps=2), progress=False)
    out.write_bytes(b"something else")
    with pytest.raises(ConfigError, match="no teacher made by tdtrack train-teacher"):
        train_teacher(short, progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "osnet_x025"}, "unknown architecture 'osnet_x025'; did you mean osnet_x0_25"),
        ({"out": "teacher.pth"}, "ends in .safetensors"),
        ({"steps": 0}, "steps is 0; it must be at least 1"),
        ({"crop_width": 4}, "crop_width is 4; it must be at least 16"),
        ({"erase": 1.5}, r"erase is 1\.5; it must lie in \[0, 1\]"),
        ({"learning_rate": 0.0}, r"learning_rate is 0\.0; it must be above 0"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, object], message: str, config: TeacherTrainConfig) -> None:
    with pytest.raises(ConfigError, match=message):
        train_teacher(replace(config, **change), progress=False)  # type: ignore[arg-type]


def test_divergence_is_said(config: TeacherTrainConfig) -> None:
    with pytest.raises(DataError, match="training diverged"):
        train_teacher(replace(config, learning_rate=1e30, steps=3), progress=False)
    assert not Path(config.out).exists()


def test_learning_rate_warms_up_and_falls_to_zero() -> None:
    shares = [module._schedule(step, 100) for step in range(100)]
    assert shares[:8] == pytest.approx([(step + 1) / 8 for step in range(8)])
    assert max(shares) == shares[8] == 1
    assert all(a >= b for a, b in pairwise(shares[8:]))
    assert 0 <= shares[-1] < 1e-3
    assert module._schedule(0, 1) == 1
