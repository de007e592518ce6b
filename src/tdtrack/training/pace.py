"""How long training will take, before it starts."""

from __future__ import annotations

import time

import torch

from tdtrack.config import TrainConfig
from tdtrack.model import JointModel, Targets, compute_losses

__all__ = ["seconds_per_iteration"]

_IMAGES = 2  # enough for batch norm, little enough for any memory
_BOXES = 8


def seconds_per_iteration(config: TrainConfig) -> float:
    """Time one iteration on made-up images and scale it to the batch; loading images comes on top.

    On a CPU this is the time of its cores, added up, which other work on the machine does not lengthen much.

    Args:
        config: model, input, batch size and precision.

    Returns:
        Seconds on the device that training would take, in one process.
    """
    device = torch.device("cuda" if torch.cuda.is_available() and config.accelerator != "cpu" else "cpu")
    with torch.random.fork_rng():
        model = JointModel(config.model).to(device)
        height, width = config.input_height, config.input_width
        images = torch.randint(0, 256, (_IMAGES, 3, height, width), dtype=torch.uint8, device=device)
    corners = torch.linspace(0, 0.5, _BOXES)[:, None] * torch.tensor([width, height, width, height])
    boxes = corners + torch.tensor([0, 0, width / 8, height / 3])
    flags = torch.zeros(_BOXES, dtype=torch.int64), torch.zeros(_BOXES, dtype=torch.bool)
    teacher = torch.zeros(_BOXES, config.model.embedding_dim)
    targets = Targets(*([row] * _IMAGES for row in (boxes, *flags, teacher))).to(device)
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    spent = 0.0
    for _ in range(2):  # the first call allocates and chooses algorithms
        started = clock()
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16-mixed"):
            total = compute_losses(model, model(images), targets, config.assign, config.loss).total
        total.backward()  # type: ignore[no-untyped-call]
        float(total.detach())  # waits for the device
        spent = clock() - started
    return spent * config.optimizer.batch_size / _IMAGES
