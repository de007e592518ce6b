"""Settings that nothing can work with are refused before any work."""

from __future__ import annotations

from typing import Any

import pytest

from tdtrack.config import DataSource, DetectConfig, LossConfig, OptimizerConfig, TrainConfig
from tdtrack.errors import ConfigError

GROUPS: dict[str, Any] = {"loss": LossConfig, "optimizer": OptimizerConfig}


def made_of(key: str, value: Any) -> Any:
    return GROUPS[key](**value) if key in GROUPS else value


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": -1}, "seed is -1; it must not be negative"),
        ({"workers": -1}, "workers is -1"),
        ({"precision": "bf16-true"}, "precision is 'bf16-true'; it must be one of 32-true, 64-true, 16-mixed, bf16-mixed"),
        ({"loss": {"huber_delta": 0.0}}, r"loss.huber_delta is 0\.0; it must be positive"),
        ({"optimizer": {"momentum": 1.0}}, r"optimizer.momentum is 1\.0; it must lie in \[0, 1\)"),
        ({"optimizer": {"weight_decay": -0.5}}, "optimizer.weight_decay is -0.5; it must not be negative"),
        ({"optimizer": {"warmup_learning_rate": -0.5}}, "optimizer.warmup_learning_rate is -0.5"),
    ],
)
def test_settings_that_torch_would_refuse_later_are_refused_in_a_sentence(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig("run", (DataSource("a"),), **{key: made_of(key, value) for key, value in settings.items()})


@pytest.mark.parametrize(
    ("name", "value"), [("min_score", 2), ("nms_iou", 1.5), ("pre_nms_top", 0), ("max_detections", 200_000)]
)
def test_thresholds_that_no_exported_model_could_carry_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"detect.{name} is {value}; it must lie in"):
        DetectConfig(**{name: value})
