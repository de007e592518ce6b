"""Train a Re-ID teacher on crops by identity: cross-entropy over identities and a supervised contrastive loss."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn
from torch.nn import functional as F

from tdtrack.config import TeacherTrainConfig
from tdtrack.errors import ConfigError, DataError, WeightsError
from tdtrack.files import atomic_write
from tdtrack.model.checkpoint import read_pickled, write_pickled
from tdtrack.teacher.reid import ReidCrops, evaluate_reid, read_reid_crops
from tdtrack.teacher.reid_batches import IdentitySampler, augment_crops, load_crops
from tdtrack.teacher.reid_losses import IdentityHead, contrastive_loss
from tdtrack.teacher.weights import NETWORKS, build_network, weights_hash
from tdtrack.version import __version__

__all__ = ["evaluate_reid", "train_teacher"]

_WARMUP = 0.08  # of all steps
_BACKGROUND = ("out", "checkpoint_every")  # settings that do not change the result


def train_teacher(config: TeacherTrainConfig, *, progress: bool = True) -> Path:
    """Train a teacher and write it as one file.

    A run that was stopped resumes from its last checkpoint, kept beside ``config.out``, and ends as if it had not been stopped:
    on a CPU to the bit. A finished teacher of the same settings and crops is left as it is.

    Args:
        config: the settings.
        progress: show a progress bar with the loss on standard error.

    Returns:
        The file, which ``load_teacher`` takes as it is: its metadata hold the architecture, crop size, width of the embeddings,
        number of identities, settings, hash of the weights and version.

    Raises:
        ConfigError: a setting is out of range, or ``config.out`` holds a teacher of other settings or crops.
        DataError: the crops cannot be read or show fewer than two identities.
        OutputError: the file cannot be written.
    """
    _check(config)
    crops = read_reid_crops(config.crops)
    settings = _settings(config, crops)
    out = Path(config.out)
    if out.exists():
        _check_finished(out, settings)
        return out
    sampler = IdentitySampler(crops.identity, config.identities_per_batch, config.crops_per_identity, config.seed)
    cached = load_crops(crops, config.crop_height, config.crop_width)
    trainer = _Trainer(config, sampler, cached)
    checkpoint = out.with_name(f"{out.name}.checkpoint")
    start = trainer.restore(checkpoint, settings)
    with _bar(progress) as bar:
        task = bar.add_task("train teacher", total=config.steps, completed=start, loss="")
        for step in range(start, config.steps):
            loss = trainer.step(step)
            bar.update(task, advance=1, loss=f"loss {loss:.3f}")
            if (step + 1) % config.checkpoint_every == 0 and step + 1 < config.steps:
                trainer.store(checkpoint, settings, step + 1)
    _write_teacher(out, config, trainer.network, settings, sampler.num_identities)
    checkpoint.unlink(missing_ok=True)
    return out


class _Trainer:
    """The network and what trains it."""

    def __init__(self, config: TeacherTrainConfig, sampler: IdentitySampler, cached: NDArray[np.uint8]) -> None:
        self._config = config
        self._sampler = sampler
        self._cached = cached
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with torch.random.fork_rng(devices=[]):  # the caller's random state is not ours to move
            torch.manual_seed(config.seed)
            self.network = build_network(config.architecture)
            width = int(self.network.feature_dim)  # type: ignore[arg-type]
            head = IdentityHead(width, sampler.num_identities)
        self._label = torch.from_numpy(sampler.label)
        self.network.to(self._device).to(memory_format=torch.channels_last).train()
        self._modules = nn.ModuleDict({"network": self.network, "head": head.to(self._device)})
        kernels = [parameter for parameter in self._modules.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in self._modules.parameters() if parameter.ndim <= 1]
        groups = [{"params": kernels, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self._optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)

    def step(self, step: int) -> float:
        """Learn from one batch; return its loss."""
        config = self._config
        for group in self._optimizer.param_groups:
            group["lr"] = config.learning_rate * _schedule(step, config.steps)
        drawn = self._sampler.draw(step)
        generator = np.random.default_rng([config.seed, 2, step])
        images = augment_crops(self._cached[drawn], generator, config.erase, self._device)
        label = self._label[drawn].to(self._device)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=_bfloat16_is_fast(self._device)):
            features = self.network(images)
        features = features.float()
        scores = self._modules["head"](features)
        loss = F.cross_entropy(scores, label, label_smoothing=config.label_smoothing)
        if config.contrastive_weight > 0:
            loss = loss + config.contrastive_weight * contrastive_loss(features, label, config.contrastive_temperature)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return float(loss.detach())

    def store(self, path: Path, settings: dict[str, Any], step: int) -> None:
        """Write all that a resumed run needs."""
        state = {
            "settings": json.dumps(settings, sort_keys=True),
            "step": step,
            "modules": self._modules.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        write_pickled(path, state)

    def restore(self, path: Path, settings: dict[str, Any]) -> int:
        """Take up a checkpoint of the same run if there is one; return the step to go on from."""
        if not path.is_file():
            return 0
        try:
            state = read_pickled(path, self._device)
            stated = json.loads(state["settings"])
        except (WeightsError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path}: not a readable checkpoint ({error}); remove it to start over") from error
        _compare(path, stated, settings)
        self._modules.load_state_dict(state["modules"])
        self._optimizer.load_state_dict(state["optimizer"])
        return int(state["step"])


def _schedule(step: int, steps: int) -> float:
    """Share of the learning rate: a linear warm-up, then half a cosine to zero."""
    warmup = max(1, round(_WARMUP * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _bfloat16_is_fast(device: torch.device) -> bool:
    """Whether the hardware computes in bfloat16 itself; emulation is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = dict(torch.cpu.get_capabilities()) if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _check(config: TeacherTrainConfig) -> None:
    if config.architecture not in NETWORKS:
        nearest = get_close_matches(config.architecture, NETWORKS, n=1, cutoff=0.0)[0]
        raise ConfigError(
            f"unknown architecture {config.architecture!r}; did you mean {nearest}? Known are {', '.join(NETWORKS)}"
        )
    if Path(config.out).suffix != ".safetensors":
        raise ConfigError(f"out is {config.out!r}; a teacher is written to a file that ends in .safetensors")
    least = {
        "steps": 1,
        "identities_per_batch": 2,
        "crops_per_identity": 1,
        "checkpoint_every": 1,
        "crop_height": 32,
        "crop_width": 16,
    }
    for setting, minimum in least.items():
        if getattr(config, setting) < minimum:
            raise ConfigError(f"{setting} is {getattr(config, setting)}; it must be at least {minimum}")
    for setting in ("erase", "label_smoothing"):
        if not 0 <= getattr(config, setting) <= 1:
            raise ConfigError(f"{setting} is {getattr(config, setting)}; it must lie in [0, 1]")
    for setting in ("learning_rate", "contrastive_temperature"):
        if not getattr(config, setting) > 0:
            raise ConfigError(f"{setting} is {getattr(config, setting)}; it must be above 0")


def _settings(config: TeacherTrainConfig, crops: ReidCrops) -> dict[str, Any]:
    """Everything the result depends on: the settings, and the crops by name, size on disk and identity."""
    settings = {key: value for key, value in asdict(config).items() if key not in _BACKGROUND}
    digest = sha256()
    for path, identity in zip(crops.paths, crops.identity):
        digest.update(f"{path.name} {path.stat().st_size} {identity}\n".encode())
    return {**settings, "crops": digest.hexdigest()}


def _check_finished(out: Path, settings: dict[str, Any]) -> None:
    try:
        with safe_open(out, framework="pt") as file:
            stated = json.loads((file.metadata() or {})["tdtrack"])["settings"]
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{out}: exists and is no teacher made by tdtrack train-teacher; choose another name") from error
    _compare(out, stated, settings)


def _compare(path: Path, stated: dict[str, Any], settings: dict[str, Any]) -> None:
    for key, value in settings.items():
        if stated.get(key) != value:
            found, wanted = ("other crops", "these") if key == "crops" else (stated.get(key), value)
            raise ConfigError(f"{path}: was made with {key} {found}, not {wanted}; remove it or choose another name")


def _write_teacher(
    out: Path, config: TeacherTrainConfig, network: nn.Module, settings: dict[str, Any], identities: int
) -> None:
    tensors = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    if not all(torch.isfinite(value).all() for value in tensors.values()):
        raise DataError(f"training diverged at learning rate {config.learning_rate}; lower learning_rate")
    metadata = {
        "architecture": config.architecture,
        "crop_height": config.crop_height,
        "crop_width": config.crop_width,
        "dim": int(network.feature_dim),  # type: ignore[arg-type]
        "identities": identities,
        "weights_sha256": weights_hash(network),
        "settings": settings,
        "version": __version__,
    }
    with atomic_write(out, "wb") as file:
        file.write(save(tensors, {"tdtrack": json.dumps(metadata, sort_keys=True)}))


def _bar(visible: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not visible,
    )
