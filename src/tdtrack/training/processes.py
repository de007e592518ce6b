"""The processes a run is spread over: who starts them, and batch norm that looks at all of their images."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, distributed, nn

from tdtrack.config import TrainConfig
from tdtrack.errors import ConfigError

__all__ = ["SyncedBatchNorm", "launch", "launched_by_others", "synchronise_norms"]


def launched_by_others(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """Tell how many processes ``torchrun`` or SLURM's ``srun`` has started.

    Args:
        environment: variables of this process.

    Returns:
        Processes per machine and machines; ``None`` where neither has started this one, or SLURM runs a shell in which the
        user types.

    Raises:
        ConfigError: machines have different numbers of processes.
    """
    if "TORCHELASTIC_RUN_ID" in environment:
        here, world = int(environment["LOCAL_WORLD_SIZE"]), int(environment["WORLD_SIZE"])
    elif "SLURM_NTASKS" in environment and environment.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        world = int(environment["SLURM_NTASKS"])
        here = world // int(environment.get("SLURM_NNODES", "1"))
    else:
        return None
    if here < 1 or world % here:
        raise ConfigError(f"{world} processes are not shared evenly by the machines; start as many on each")
    return here, world // here


def launch(config: TrainConfig) -> Fabric:
    """Start the processes of all devices, or join those that ``torchrun`` or SLURM has started.

    Args:
        config: hardware, precision, and how many; what started the processes overrides ``devices`` and ``nodes``.

    Raises:
        ConfigError: this machine does not have the devices, or they cannot compute like that.
    """
    devices, nodes = launched_by_others(os.environ) or (config.devices, config.nodes)
    # A plain name for one process lets Fabric choose; several on one GPU, or several machines, need DDP by name.
    strategy = "ddp" if devices * nodes > 1 else "auto"
    try:
        fabric = Fabric(
            accelerator=config.accelerator,
            strategy=strategy,
            devices=devices,
            num_nodes=nodes,
            precision=config.precision,  # type: ignore[arg-type]
        )
    except (ValueError, TypeError, RuntimeError, ImportError) as error:  # what Fabric raises depends on what is missing
        raise ConfigError(
            f"accelerator {config.accelerator!r} with devices {devices}, nodes {nodes} and precision {config.precision!r} "
            f"cannot be used here ({str(error).rstrip('.')}); set accelerator to auto, devices to 1 and precision to 32-true"
        ) from error
    fabric.launch()
    return fabric


def synchronise_norms(model: nn.Module, device: torch.device) -> None:
    """Make every batch norm of a model learn from the images of all processes, in place.

    Names and values of parameters and buffers stay as they are. In evaluation mode nothing changes.

    Args:
        model: on any device, the same in every process.
        device: where it will compute. A GPU gets torch's own synchronised norm, which a CPU does not have.
    """
    if device.type == "cuda":
        from timm.layers.norm_act import (
            convert_sync_batchnorm,  # torch's own conversion would lose the activation in timm's norms
        )

        convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return
    # A group of its own: in the default group, the gradients of DDP travel meanwhile.
    group = cast(distributed.ProcessGroup, distributed.new_group())
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, SyncedBatchNorm(child, group))


class SyncedBatchNorm(nn.BatchNorm2d):
    """Batch norm over the images of all processes, on any device.

    The mean and the variance are those of the whole batch, so are their gradients: with a loss whose parts add up over
    processes, the sum of the processes' gradients is that of one process with all images.
    """

    def __init__(self, plain: nn.BatchNorm2d, group: distributed.ProcessGroup) -> None:
        """Take over a norm.

        Args:
            plain: its parameters and buffers are used, not copied; also those of timm's norms with dropout and activation.
            group: the processes.
        """
        super().__init__(plain.num_features, plain.eps, plain.momentum)
        self.weight, self.bias = plain.weight, plain.bias
        self.running_mean, self.running_var = plain.running_mean, plain.running_var
        self.num_batches_tracked = plain.num_batches_tracked
        self.training = plain.training
        self.drop = cast(nn.Module, getattr(plain, "drop", nn.Identity()))
        self.act = cast(nn.Module, getattr(plain, "act", nn.Identity()))
        self._group = group

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(B, C, H, W)``."""
        normalised = self._over_all(x) if self.training else super().forward(x)
        activated: Tensor = self.act(self.drop(normalised))
        return activated

    def _over_all(self, x: Tensor) -> Tensor:
        here = x.numel() // x.shape[1]
        variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        # Moments add up over processes, and in double precision their difference loses nothing that single precision has.
        mean, variance = mean.double(), variance.double()
        count = mean.new_full((1,), here)
        moments = torch.cat([mean * here, (variance + mean.square()) * here, count])
        sums: Tensor = _SumOverProcesses.apply(moments, self._group)
        total = sums[-1]
        mean, square = (sums[:-1] / total).chunk(2)
        variance = square - mean.square()
        self._remember(mean.detach(), (variance * total / (total - 1)).detach())
        scale = (self.weight.double() / torch.sqrt(variance + self.eps)).to(x.dtype)
        centred = x - mean.to(x.dtype).view(-1, 1, 1)
        normalised: Tensor = centred * scale.view(-1, 1, 1) + self.bias.view(-1, 1, 1)
        return normalised

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Let the running moments follow; the variance as if of a sample, as torch's own norm does."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), momentum)


class _SumOverProcesses(torch.autograd.Function):
    """Sum of a tensor over processes; the gradient of a loss that adds up over processes is summed likewise."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, group: distributed.ProcessGroup) -> Tensor:
        ctx.group = group
        whole = part.clone()
        distributed.all_reduce(whole, group=group)
        return whole

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        whole = gradients[0].clone()
        distributed.all_reduce(whole, group=ctx.group)
        return whole, None
