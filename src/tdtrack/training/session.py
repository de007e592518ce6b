"""One training run in this process: what the loop works on and the things it does."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from torch import Tensor, nn

from tdtrack.config import OptimizerConfig, TrainConfig
from tdtrack.errors import ConfigError
from tdtrack.files import atomic_write, require_still_there, sweep
from tdtrack.model import (
    BatchTotals,
    IdentityHead,
    JointModel,
    Losses,
    Targets,
    TeacherTarget,
    assign_batch,
    compute_losses,
    load_weights,
    read_metadata,
    read_teacher_target,
    save_model,
    weight_decay_groups,
)
from tdtrack.model.anchors import pyramid_anchors, pyramid_shapes
from tdtrack.training.ema import AveragedWeights
from tdtrack.training.processes import launch, synchronise_norms
from tdtrack.training.samples import Batch, TrainingSamples, load_labelled_sets, training_batches
from tdtrack.training.schedule import learning_rate_at, peak_learning_rate
from tdtrack.training.state import (
    CHECKPOINT_FILE,
    FREE_SETTINGS,
    LOGGED,
    RunState,
    load_checkpoint,
    plain_settings,
    save_checkpoint,
)
from tdtrack.training.target import fit_target
from tdtrack.training.validate import validate
from tdtrack.version import __version__

__all__ = ["Session"]


class Session:
    """A run on its devices, between two iterations.

    Attributes:
        config: everything about the run.
        run: the state that a checkpoint keeps.
        leads: this process writes files; true in one of several.
        alone: there is no other process.
    """

    def __init__(self, config: TrainConfig) -> None:
        """Read the data, build the model, and continue from the run folder's checkpoint if it has one.

        Args:
            config: everything about the run.

        Raises:
            ConfigError, DataError, StoreError, WeightsError, OutputError: as ``tdtrack.training.train`` says.
        """
        self.config = config
        self._fabric = launch(config)
        self.leads = self._fabric.is_global_zero
        self.alone = self._fabric.world_size == 1
        self._settings = plain_settings(config)
        classes, dim = config.model.classes, config.model.embedding_dim
        named = config.loss.supervision == "identities"
        sources = config.train if named else [replace(source, identities="") for source in config.train]
        self._train_sets = load_labelled_sets(sources, classes, dim, need_stores=True)
        self._val_sets = load_labelled_sets(config.validation, classes, dim, need_stores=False)
        self._checkpoint, self._settings_file = Path(config.out) / CHECKPOINT_FILE, Path(config.out) / "config.yaml"
        saved = load_checkpoint(self._checkpoint, self._settings, self._fingerprints())
        self._target = self._learned(saved)
        self._samples = TrainingSamples(self._train_sets, config, self._target)
        self._build(initial=saved is None)
        if saved is not None:
            self.run.load_state_dict(saved["run"])
            self._fabric.strategy.precision.load_state_dict(saved["precision"])
        if self.leads:
            sweep(Path(config.out))
            with atomic_write(self._settings_file) as file:
                yaml.safe_dump(self._settings, file, sort_keys=False)

    def _learned(self, saved: dict[str, Any] | None) -> TeacherTarget | None:
        """Return what is learned of the teacher: as before for a run or a model that goes on, else fitted to the data."""
        kind = self.config.model.embedding_target
        if saved is not None:
            weights = saved["run"]["model"]
            known = [weights[name] for name in ("teacher_target.mean", "teacher_target.directions") if name in weights]
            return TeacherTarget(*known) if known else None
        if self.config.init_from and (target := read_teacher_target(self.config.init_from)) is not None:
            learned = read_metadata(self.config.init_from).get("settings", {}).get("model", {}).get("embedding_target", kind)
            if learned != kind:
                raise ConfigError(
                    f"model.embedding_target is {kind}, but {self.config.init_from} learned {learned} and can only go on with "
                    f"that; set it to {learned}, or begin without init_from"
                )
            return target
        if kind == "first":
            return None
        return fit_target(self._train_sets, self.config.model.embedding_dim, kind)

    def _build(self, *, initial: bool) -> None:
        config, optimizer = self.config, self.config.optimizer
        torch.manual_seed(config.seed)
        model = JointModel(config.model if initial else replace(config.model, pretrained=False))
        model.config = config.model  # a resumed model is not downloaded, but is what it was
        model.teacher_target = self._target
        if config.init_from and initial:
            load_weights(model, config.init_from)
        elif initial and config.loss.supervision == "teacher":
            model.start_embeddings_at(self._samples.mean_embedding())
        if optimizer.anchor_slots == "shared":
            model.embedding_head.share_slots()
        elif optimizer.anchor_slots == "tied":
            model.embedding_head.tie_slots()
        head = self._identity_head() if config.loss.supervision == "identities" else None
        if not self.alone:
            synchronise_norms(model, self._fabric.device)
        algorithm = _algorithm(model, head, optimizer)
        shapes = pyramid_shapes(config.input_height, config.input_width, config.model.min_level, config.model.max_level)
        self._anchors = pyramid_anchors(shapes, config.model, self._fabric.device)
        self._learner, self._optimizer = self._fabric.setup(_Learner(model, head, config), algorithm)
        average = AveragedWeights(model, optimizer.ema_decay) if optimizer.ema_decay > 0 else None
        sums = torch.zeros(len(LOGGED), dtype=torch.float64, device=self._fabric.device)
        self.run = RunState(model, algorithm, average, sums, head)

    def _identity_head(self) -> IdentityHead:
        count = self._samples.num_identities
        if count < 2:
            raise ConfigError(
                f"loss.supervision is 'identities' but the training data name {count}; name at least two in the files that "
                "train.identities give"
            )
        return IdentityHead(self.config.model.embedding_dim, count)

    def batches(self) -> Generator[Batch, None, None]:
        """Return this process's share of the batches that are left; loader processes have started when this returns."""
        return training_batches(
            self._samples,
            self.config,
            self.run.step,
            rank=self._fabric.global_rank,
            world_size=self._fabric.world_size,
            pin_memory=self._fabric.device.type == "cuda",
        )

    def iterate(self, batch: Batch) -> None:
        """Do one iteration.

        Args:
            batch: this process's share.
        """
        rate = learning_rate_at(self.run.step, self.config.optimizer)
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        numbers = self._add_gradients(batch)
        largest = self.config.optimizer.max_gradient_norm or float("inf")
        norm = self._fabric.clip_gradients(self._learner, self._optimizer, max_norm=largest, error_if_nonfinite=False)
        self._optimizer.step()
        self._optimizer.zero_grad()
        if self.run.average is not None:
            self.run.average.update(self.run.model)
        self.run.step += 1
        self.run.add_to_sums(torch.stack([*numbers[:-1], torch.as_tensor(norm).double(), numbers[-1]]))

    def _add_gradients(self, batch: Batch) -> Tensor:
        """Add up the gradients of this process's share and exchange them with the others.

        Returns:
            The four losses and the positives of the whole batch, ``(5,)`` float64.
        """
        fabric, config = self._fabric, self.config
        parts = [part.to(fabric.device) for part in batch.split(config.optimizer.accumulate)]
        assignments = [assign_batch(self._anchors, targets, config.assign) for _, targets in parts]
        totals = self._totals([BatchTotals.of(of_part, targets) for of_part, (_, targets) in zip(assignments, parts)])
        sums = torch.zeros(4, dtype=torch.float64, device=fabric.device)
        for (images, targets), of_part in zip(parts, assignments):
            last = targets is parts[-1][1]
            with fabric.no_backward_sync(self._learner, enabled=not last):
                losses: Losses = self._learner(images, targets, of_part, totals)
                fabric.backward(losses.total * fabric.world_size)  # DDP averages, where these gradients add up
            sums += torch.stack([losses.total, losses.classification, losses.box, losses.embedding]).detach().double()
        return torch.cat([self._over_processes(sums), totals.positives.double().view(1)])

    def _totals(self, parts: list[BatchTotals]) -> BatchTotals:
        """Add up micro-batches and processes."""
        here = torch.stack([torch.stack([part.images, part.positives, part.named]) for part in parts]).sum(dim=0)
        return BatchTotals(*self._over_processes(here).unbind())

    def _over_processes(self, numbers: Tensor) -> Tensor:
        return cast(Tensor, self._fabric.all_reduce(numbers, reduce_op="sum"))

    @property
    def validates(self) -> bool:
        """There are data to validate on."""
        return bool(self._val_sets)

    def validate(self) -> dict[str, float]:
        """Validate in the leading process while the others wait.

        Returns:
            Numbers by column of the log; none without validation data, and in the other processes.
        """
        if self.leads and self._val_sets:
            config = self.config
            with self._final_weights():
                report = validate(
                    self.run.model,
                    self._val_sets,
                    config.input_height,
                    config.input_width,
                    config.detect,
                    workers=config.workers,
                )
            self.run.validation = {"val_ap50": report.ap50}
            if report.mean_cosine is not None:
                self.run.validation["val_cosine"] = report.mean_cosine
        self._fabric.barrier()
        return self.run.validation

    def agree(self, wish: bool) -> bool:
        """Return whether any process has a wish; every process gets the same answer, and has to ask."""
        return bool(self._over_processes(torch.tensor(int(wish), device=self._fabric.device)))

    def wait_for_others(self) -> None:
        """Return when every process has come here."""
        self._fabric.barrier()

    def save_checkpoint(self, *, due: bool = False) -> Path:
        """Write the run folder's checkpoint and return its path.

        Args:
            due: a validation is to follow, with which the run will go on.

        Raises:
            OutputError: it cannot be written, or the run folder has gone.
        """
        self.run.due = due
        if self.leads:
            require_still_there(self._settings_file)
            precision = self._fabric.strategy.precision.state_dict()
            save_checkpoint(self._checkpoint, self.run, self._settings, self._fingerprints(), precision)
        return self._checkpoint

    def save_model(self, path: Path) -> None:
        """Write the final model: averaged weights where averaging is on.

        Args:
            path: file to write.

        Raises:
            OutputError: it cannot be written, or the run folder has gone.
        """
        if self.leads:
            require_still_there(self._settings_file)
            with self._final_weights():
                save_model(path, self.run.model.merged(), self._metadata())
            require_still_there(self._settings_file)  # else the model lies alone in a new folder
        self._fabric.barrier()

    def remarks(self) -> list[str]:
        """Return what the user should know about batch and data, one line each."""
        names = ", ".join(self.config.model.classes)
        left_out = [
            f"{item.dataset.name}: {item.left_out} boxes are not of {names} and count as background"
            for item in self._train_sets
            if item.left_out
        ]
        return [*self._batch_remark(), *left_out]

    def _batch_remark(self) -> list[str]:
        """Say how a batch is spread, and where its learning rate comes from; nothing of one that is not."""
        config, processes = self.config.optimizer, self._fabric.world_size
        if processes == config.accumulate == 1 and not config.learning_rate_batch:
            return []
        share = config.batch_size // (processes * config.accumulate)
        spread = f"batch of {config.batch_size}: {processes} x {config.accumulate} x {share} (processes, micro-batches, images)"
        if config.learning_rate_batch:
            rule = f"{config.learning_rate} x {config.batch_size} / {config.learning_rate_batch}, by the linear rule"
        else:
            rule = "as set; if it was chosen for another batch size, give that as optimizer.learning_rate_batch to scale it"
        return [f"{spread}; learning rate {peak_learning_rate(config):g}, {rule}"]

    def _final_weights(self) -> AbstractContextManager[None]:
        return nullcontext() if self.run.average is None else self.run.average.applied(self.run.model)

    def _fingerprints(self) -> list[str]:
        """Return what must not change while a run is stopped: data sets and teacher."""
        teachers = [item.store.teacher_fingerprint for item in self._train_sets if item.store is not None]
        named = [str(sorted(item.identities.items())) for item in self._train_sets if item.identities]
        identities = [sha256(text.encode()).hexdigest() for text in named]
        return [item.fingerprint for item in self._train_sets] + teachers + identities

    def _metadata(self) -> dict[str, Any]:
        """Return what travels with the weights."""
        sets = self._train_sets
        store = next(item.store for item in sets if item.store is not None)
        return {
            "version": __version__,
            "input_height": self.config.input_height,
            "input_width": self.config.input_width,
            "classes": list(self.config.model.classes),
            "teacher": {"name": store.teacher_name, "fingerprint": store.teacher_fingerprint, "dim": store.dim},
            "data": [
                {"name": item.dataset.name, "fingerprint": item.fingerprint, "licence": item.dataset.licence} for item in sets
            ],
            "licence": "; ".join(sorted({item.dataset.licence for item in sets} - {""})),
            "steps": self.run.step,
            "validation": self.run.validation,
            "appearance": {},
            "settings": {name: value for name, value in self._settings.items() if name not in FREE_SETTINGS},
        }


class _Learner(nn.Module):
    """Model and losses as one module: everything with parameters runs inside the one ``forward`` that Fabric wraps."""

    def __init__(self, model: JointModel, identity_head: IdentityHead | None, config: TrainConfig) -> None:
        super().__init__()
        self.model = model
        self.identity_head = identity_head
        self._config = config

    def forward(self, images: Tensor, targets: Targets, assignment: Tensor, totals: BatchTotals) -> Losses:
        predictions, head = self.model(images), self.identity_head
        how = self._config.assign, self._config.loss
        return compute_losses(self.model, predictions, targets, *how, head, assignment=assignment, totals=totals)


def _algorithm(model: JointModel, identity_head: IdentityHead | None, config: OptimizerConfig) -> torch.optim.Optimizer:
    slow = set(model.embedding_head.conv2.parameters())
    groups = [
        {**group, "params": [weight for weight in group["params"] if (weight in slow) == chosen], "lr_scale": scale}
        for group in weight_decay_groups(model)
        for chosen, scale in ((False, 1.0), (True, config.embedding_learning_rate_scale))
    ]
    if identity_head is not None:
        groups.append({"params": list(identity_head.parameters()), "weight_decay": 0.0, "lr_scale": 1.0})
    rate, decay = config.warmup_learning_rate, config.weight_decay
    if config.algorithm == "adamw":
        return torch.optim.AdamW(groups, lr=rate, betas=(config.momentum, 0.999), weight_decay=decay)
    return torch.optim.SGD(groups, lr=rate, momentum=config.momentum, weight_decay=decay)
