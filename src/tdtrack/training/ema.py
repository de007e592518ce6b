"""An exponential moving average of a model's weights and batch-norm statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["AveragedWeights"]


class AveragedWeights:
    """A running average of everything in a model's state dict.

    Early averages would be mostly the initial weights, so the decay after ``t`` updates is ``min(decay, (1 + t) / (10 + t))``.

    Source:
        Not in the paper; the ramp is TensorFlow's ``ExponentialMovingAverage(num_updates)``.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Start from the model's present weights.

        Args:
            model: the model to follow; its state dict must keep its keys, shapes and device.
            decay: share of the old average that an update keeps, in ``[0, 1)``.
        """
        self.decay = decay
        self.updates = 0
        self._average = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's present weights; counters are copied."""
        share = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        state = model.state_dict()
        real = [name for name, value in self._average.items() if value.is_floating_point()]
        torch._foreach_lerp_([self._average[name] for name in real], [state[name].detach() for name in real], share)
        for name in self._average.keys() - set(real):
            self._average[name].copy_(state[name])

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Let the model hold the averaged weights inside the block, and its own again after it."""
        own = {name: value.detach().clone() for name, value in model.state_dict().items()}
        model.load_state_dict(self._average)
        try:
            yield
        finally:
            model.load_state_dict(own)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averaged weights under the model's own names (not copied)."""
        return dict(self._average)

    @torch.no_grad()
    def load_state_dict(self, average: Mapping[str, Tensor], updates: int) -> None:
        """Continue from a saved average.

        Args:
            average: what ``state_dict`` returned.
            updates: how many updates it had seen.
        """
        for name, value in self._average.items():
            value.copy_(average[name])
        self.updates = updates
