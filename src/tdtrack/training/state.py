"""Everything a run needs to go on as if it had never stopped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tdtrack.config import TrainConfig
from tdtrack.errors import ConfigError, DataError, WeightsError
from tdtrack.model import IdentityHead, JointModel
from tdtrack.model.checkpoint import read_pickled, write_pickled
from tdtrack.training.ema import AveragedWeights

__all__ = [
    "CHECKPOINT_FILE",
    "FREE_SETTINGS",
    "LOGGED",
    "RunState",
    "check_same_run",
    "load_checkpoint",
    "plain_settings",
    "save_checkpoint",
]

CHECKPOINT_FILE = "checkpoint.pt"
"""Name of the resumable checkpoint in a run folder."""

LOGGED = ("loss", "class_loss", "box_loss", "embedding_loss", "gradient_norm", "positives")
"""What is averaged between two rows of the log."""

FREE_SETTINGS = frozenset({"out", "workers", "checkpoint_every", "devices", "nodes"})
"""Settings that the result does not depend on; on the number of processes not beyond rounding."""

_PLACES = re.compile(r"train\[\d+\]\.(annotations|images|store|identities)")
"""Settings that say where training data lie; for what is in them, a checkpoint has fingerprints."""

_FORMAT = 1


@dataclass
class RunState:
    """A run between two iterations.

    Attributes:
        model: in training mode, on its device.
        optimizer: of its parameters.
        average: averaged weights, ``None`` where averaging is off.
        identity_head: classifier that embeddings learn from, ``None`` where they learn from a teacher.
        step: iterations done.
        sums: ``(len(LOGGED),)`` float64 on the model's device, sums since the last row of the log.
        summed: iterations in ``sums``.
        validation: numbers of the last validation by name; empty before the first.
        due: the validation that this iteration ends with has not been done, nor what comes after it.
    """

    model: JointModel
    optimizer: torch.optim.Optimizer
    average: AveragedWeights | None
    sums: Tensor
    identity_head: IdentityHead | None = None
    step: int = 0
    summed: int = 0
    validation: dict[str, float] = field(default_factory=dict)
    due: bool = False

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain values only, random generators included."""
        return {
            "model": self.model.state_dict(),
            "identity_head": None if self.identity_head is None else self.identity_head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "average_updates": 0 if self.average is None else self.average.updates,
            "step": self.step,
            "sums": self.sums,
            "summed": self.summed,
            "validation": self.validation,
            "due": self.due,
            "torch_random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what ``state_dict`` returned."""
        self.model.load_state_dict(state["model"])
        if self.identity_head is not None:
            self.identity_head.load_state_dict(state["identity_head"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"], state["average_updates"])
        self.step, self.summed = state["step"], state["summed"]
        self.sums.copy_(state["sums"])
        self.validation = dict(state["validation"])
        self.due = state.get("due", False)
        torch.set_rng_state(state["torch_random"])
        if len(state["cuda_random"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda_random"])

    def add_to_sums(self, numbers: Tensor) -> None:
        """Add one iteration's ``(len(LOGGED),)`` numbers; nothing waits for the device."""
        self.sums += numbers
        self.summed += 1

    def take_means(self) -> dict[str, float]:
        """Return the means since the last call, by name, and start over; empty when there was no iteration."""
        if self.summed == 0:
            return {}
        means = dict(zip(LOGGED, (self.sums / self.summed).tolist()))
        self.sums.zero_()
        self.summed = 0
        return means


def plain_settings(config: TrainConfig) -> dict[str, Any]:
    """Return the settings as nested dictionaries, lists, numbers and text, as they are written to YAML and checkpoints."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return plain


def check_same_run(where: Path, recorded: Mapping[str, Any], current: Mapping[str, Any], *, places: bool = True) -> None:
    """Refuse to go on with a run whose settings were others.

    Args:
        where: file that the recorded settings come from.
        recorded: its ``plain_settings``.
        current: those of this call. Run folder, processes and checkpoint interval may differ.
        places: training data have to lie where they did; false where their content is compared.

    Raises:
        ConfigError: names the first setting that differs and both values.
    """
    before, now = dict(_flat(recorded)), dict(_flat(current))
    for name in [*now, *before]:
        if not places and _PLACES.fullmatch(name):
            continue
        if name in FREE_SETTINGS or before.get(name, _MISSING) == now.get(name, _MISSING):
            continue
        raise ConfigError(
            f"{where} belongs to a run with {name} {before.get(name, _MISSING)}, this one has {now.get(name, _MISSING)}; "
            f"put the setting back, or choose another out"
        )


_MISSING = "unset"


def _flat(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted names and values."""
    if isinstance(settings, Mapping):
        for name, value in settings.items():
            yield from _flat(value, f"{prefix}.{name}" if prefix else name)
    elif isinstance(settings, list) and settings and isinstance(settings[0], Mapping):
        for index, value in enumerate(settings):
            yield from _flat(value, f"{prefix}[{index}]")
    else:
        yield prefix, settings


def save_checkpoint(
    path: Path, state: RunState, settings: Mapping[str, Any], data: list[str], precision: Mapping[str, Any]
) -> None:
    """Write a checkpoint, all or nothing.

    Args:
        path: file to write.
        state: the run.
        settings: its ``plain_settings``.
        data: fingerprints of the training data and the teacher.
        precision: state of the loss scaler; empty where there is none.

    Raises:
        OutputError: the file cannot be written.
    """
    content = {
        "format": _FORMAT,
        "settings": dict(settings),
        "data": data,
        "precision": dict(precision),
        "run": state.state_dict(),
    }
    write_pickled(path, content)


def load_checkpoint(path: Path, settings: Mapping[str, Any], data: list[str]) -> dict[str, Any] | None:
    """Read the checkpoint of this very run, running no code from the file.

    Args:
        path: file to read.
        settings: ``plain_settings`` of this call.
        data: fingerprints as for ``save_checkpoint``.

    Returns:
        What ``save_checkpoint`` wrote, on the CPU; ``None`` when there is no such file.

    Raises:
        WeightsError: the file is damaged.
        ConfigError: it belongs to a run with other settings.
        DataError: the data or the embeddings have changed since.
    """
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = read_pickled(path)
    except WeightsError as error:
        raise WeightsError(f"{error}; delete this checkpoint to start the run anew") from error
    if not isinstance(content, dict) or {"format", "settings", "data", "precision", "run"} - content.keys():
        raise WeightsError(f"{path} holds no checkpoint of a run; delete it to start the run anew")
    if content["format"] != _FORMAT:
        raise WeightsError(
            f"{path} has checkpoint format {content['format']}, this version reads {_FORMAT}; delete it to start anew"
        )
    check_same_run(path, content["settings"], settings, places=False)
    if content["data"] != data:
        raise DataError(
            f"{path} was trained on other boxes or embeddings than there are now; restore them, or choose another out"
        )
    return content
