"""Settings, checkpoints, logs and stop requests of a run."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from tdtrack.config import DataSource, TrainConfig
from tdtrack.errors import ConfigError, DataError, OutputError, WeightsError
from tdtrack.training.log import COLUMNS, METRICS_FILE, MetricsLog, ProgressLine
from tdtrack.training.signals import StopRequest
from tdtrack.training.state import RunState, check_same_run, load_checkpoint, plain_settings, save_checkpoint
from training_world import tiny_config

HERE = Path("run")


def config(**changes: object) -> TrainConfig:
    return tiny_config(Path("out"), DataSource("a.json", "images", "a.parquet"), **changes)


def test_settings_survive_yaml() -> None:
    settings = plain_settings(config())
    assert yaml.safe_load(yaml.safe_dump(settings)) == settings
    source = {"annotations": "a.json", "images": "images", "store": "a.parquet", "identities": "", "skip_bad_boxes": False}
    assert settings["train"] == [source | {"format": "auto", "split": "", "box": "full", "rename": {}}]


def test_the_first_setting_that_differs_is_named() -> None:
    base = config()
    recorded = plain_settings(base)
    check_same_run(
        HERE, recorded, plain_settings(replace(base, out="elsewhere", workers=7, checkpoint_every=1, devices=8, nodes=2))
    )
    for changed, message in (
        (replace(base, seed=1), "with seed 0, this one has 1"),
        (replace(base, optimizer=replace(base.optimizer, momentum=0.5)), "with optimizer.momentum 0.9, this one has 0.5"),
        (replace(base, train=(DataSource("b.json"),)), r"with train\[0\].annotations a.json, this one has b.json"),
        (replace(base, train=base.train * 2), r"with train\[1\].annotations unset, this one has a.json"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_same_run(HERE, recorded, plain_settings(changed))


def small_run() -> RunState:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return RunState(model, optimizer, None, torch.zeros(6, dtype=torch.float64))  # type: ignore[arg-type]


def learn(run: RunState) -> None:
    loss = run.model(torch.randn(4, 3)).square().sum()
    loss.backward()
    run.optimizer.step()
    run.optimizer.zero_grad()
    run.step += 1
    run.add_to_sums(torch.stack([*[loss.detach().double()] * 4, torch.ones((), dtype=torch.float64), torch.tensor(3.0)]))


def test_a_checkpoint_holds_all_that_matters(tmp_path: Path) -> None:
    first = small_run()
    for _ in range(3):
        learn(first)
    first.validation = {"val_ap50": 0.5}
    settings = plain_settings(config())
    save_checkpoint(tmp_path / "c.pt", first, settings, ["data"], {})
    learn(first)
    second = small_run()
    content = load_checkpoint(tmp_path / "c.pt", settings, ["data"])
    assert content is not None
    second.load_state_dict(content["run"])
    assert second.step == 3
    assert second.validation == {"val_ap50": 0.5}
    learn(second)
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters()))
    assert first.take_means() == second.take_means()
    assert second.take_means() == {}


def test_means_are_means() -> None:
    run = small_run()
    for value in (1.0, 2.0, 6.0):
        run.add_to_sums(value * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 1.0]))
    expected = {
        "loss": 3.0,
        "class_loss": 6.0,
        "box_loss": 9.0,
        "embedding_loss": 12.0,
        "gradient_norm": 15.0,
        "positives": 3.0,
    }
    assert run.take_means() == expected


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    settings = plain_settings(config())
    path = tmp_path / "c.pt"
    assert load_checkpoint(path, settings, ["data"]) is None
    save_checkpoint(path, small_run(), settings, ["data"], {})
    with pytest.raises(ConfigError, match=r"c\.pt belongs to a run with input_height 64"):
        load_checkpoint(path, plain_settings(config(input_height=96)), ["data"])
    with pytest.raises(DataError, match="other boxes or embeddings"):
        load_checkpoint(path, settings, ["other data"])


@pytest.mark.parametrize("damage", [lambda content: content[: len(content) // 2], lambda _: b"", lambda _: b"not a checkpoint"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "c.pt"
    save_checkpoint(path, small_run(), plain_settings(config()), ["data"], {})
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(WeightsError, match=r"c\.pt cannot be read as a checkpoint"):
        load_checkpoint(path, plain_settings(config()), ["data"])


def test_rows_after_the_checkpoint_are_cut(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, 0) as log:
        for step in (2, 4, 6, 8):
            log.write(step, {"loss": step / 3, "val_ap50": 0.25})
    whole = (tmp_path / METRICS_FILE).read_text()
    with (tmp_path / METRICS_FILE).open("a") as file:
        file.write("10,0.1,0.")  # killed while writing
    with MetricsLog(tmp_path, 4) as log:
        for step in (6, 8):
            log.write(step, {"loss": step / 3, "val_ap50": 0.25})
    assert (tmp_path / METRICS_FILE).read_text() == whole
    assert whole.splitlines()[0] == ",".join(COLUMNS)
    assert whole.splitlines()[1] == "2,,0.666666667,,,,,,0.25,"
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_run_that_starts_anew_forgets_old_rows(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, 0) as log:
        log.write(2, {"loss": 1.0})
    with MetricsLog(tmp_path, 0):
        pass
    assert (tmp_path / METRICS_FILE).read_text() == ",".join(COLUMNS) + "\n"


def test_logs_that_cannot_be_written_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where the run folder should be")
    with pytest.raises(OutputError):
        MetricsLog(tmp_path / "run", 0)


def test_the_progress_bar_shows_numbers_and_can_be_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressLine("training", 2, 0, enabled=False) as line:
        line.advance({"loss": 1.0})
        line.say("hidden")
    assert capsys.readouterr() == ("", "")
    with ProgressLine("training", 2, 0, enabled=True) as line:
        line.say("boxes [of others]")
        line.advance({"loss": 1.23456, "val_ap50": 0.5})
        line.advance({})
    shown = capsys.readouterr().err
    assert "boxes [of others]" in shown
    assert "loss 1.235 AP50 0.500" in shown


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_request_waits_once(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    came: list[int] = []
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    before = signal.signal(number, lambda *_: came.append(1))
    try:
        with StopRequest() as stop:
            assert not stop.received
            os.kill(os.getpid(), number)
            assert stop.received
            now[0] += 4
            os.kill(os.getpid(), number)  # as a launcher passes it on
            assert not came
            now[0] += 2
            os.kill(os.getpid(), number)
            assert came == [1]
        os.kill(os.getpid(), number)
        assert came == [1, 1]
    finally:
        signal.signal(number, before)


def test_a_stop_request_in_another_thread_catches_nothing() -> None:
    handlers = []

    def look() -> None:
        with StopRequest():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGINT)]
