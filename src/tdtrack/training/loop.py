"""The training loop (Sec. 3.2 to 3.4), resumable at any iteration."""

from __future__ import annotations

import math
from contextlib import ExitStack, closing
from itertools import chain
from pathlib import Path

from tdtrack.config import TrainConfig
from tdtrack.errors import ConfigError
from tdtrack.model import read_metadata
from tdtrack.model.checkpoint import MODEL_FILE
from tdtrack.training.log import MetricsLog, ProgressLine
from tdtrack.training.memory import keep_freed_memory
from tdtrack.training.schedule import learning_rate_at
from tdtrack.training.session import Session
from tdtrack.training.signals import StopRequest
from tdtrack.training.state import check_same_run, plain_settings

__all__ = ["train"]


def train(config: TrainConfig, *, progress: bool = True) -> Path:
    """Train the joint model; called again with the same settings, continue where the last call stopped.

    The run folder gets ``config.yaml``, ``metrics.csv``, ``tensorboard/``, ``checkpoint.pt`` and, at the end,
    ``model.safetensors``. On a CPU, a run that was stopped or killed and then resumed ends with the same bytes as one that
    was not. Ctrl-C writes a checkpoint first.

    Args:
        config: everything about the run.
        progress: show a progress bar on standard error.

    Returns:
        Path of the final model: averaged weights where averaging is on. Returns at once when it is already there.

    Raises:
        ConfigError: a setting cannot be used, the run folder holds a run with other settings, or the loss is not finite.
        DataError: a data set cannot be used, or no image has a box.
        StoreError: an embedding store does not fit its data set, or the stores are of different teachers.
        WeightsError: the checkpoint or the initial weights cannot be read.
        OutputError: the run folder cannot be written.
        KeyboardInterrupt: the user stopped the run; says where it will resume.
    """
    final = Path(config.out) / MODEL_FILE
    if final.is_file():
        check_same_run(final, read_metadata(final).get("settings", {}), plain_settings(config))
        return final
    keep_freed_memory()
    session = Session(config)
    if session.run.step < config.optimizer.steps or session.run.due:
        _loop(session, config, progress=progress and session.leads)
    session.save_model(final)
    return final


def _loop(session: Session, config: TrainConfig, *, progress: bool) -> None:
    """Iterate to the end: learn, write down, validate, keep."""
    run, steps = session.run, config.optimizer.steps
    with ExitStack() as stack:
        # Its processes must start before the threads of log and progress bar.
        batches = stack.enter_context(closing(session.batches()))
        log = stack.enter_context(MetricsLog(Path(config.out), run.step - run.due)) if session.leads else None
        line = stack.enter_context(ProgressLine("training", steps, run.step, enabled=progress))
        stop = stack.enter_context(StopRequest())
        for remark in session.remarks():
            line.say(remark)
        for batch in batches if not run.due else chain([None], batches):
            if batch is not None:
                session.iterate(batch)
            row: dict[str, float] = {}
            validated: dict[str, float] = {}
            if session.validates and _due(run.step, config.validate_every, steps):
                session.save_checkpoint(due=True)  # whatever stops a validation, it costs no iteration
                validated = session.validate()
            if _due(run.step, config.log_every, steps):
                row = {"learning_rate": learning_rate_at(run.step - 1, config.optimizer), **run.take_means()}
                _refuse_divergence(row["loss"], run.step)
            row |= validated
            if row and log is not None:
                log.write(run.step, row)
            line.advance(row)
            # Several processes stop together, where the log makes them wait for each other anyway.
            stopping = session.agree(stop.received) if session.alone or _due(run.step, config.log_every, steps) else False
            if stopping or _due(run.step, config.checkpoint_every, steps):
                checkpoint = session.save_checkpoint()
            if stopping and run.step < steps:
                session.wait_for_others()  # a launcher ends them all when the first one ends, also one that still writes
                line.say(f"stopped after iteration {run.step}; the same command resumes from {checkpoint}")
                raise KeyboardInterrupt(f"stopped after iteration {run.step}, resumable from {checkpoint}")


def _due(step: int, every: int, steps: int) -> bool:
    """Tell whether something happens after this iteration: always after the last; ``every`` 0 is only then."""
    return step == steps or (every > 0 and step % every == 0)


def _refuse_divergence(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise ConfigError(
            f"the loss is {loss} at iteration {step}, training has diverged; lower optimizer.learning_rate or set "
            "optimizer.max_gradient_norm (10 is usual), and start in a new run folder"
        )
