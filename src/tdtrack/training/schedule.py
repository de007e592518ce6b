"""The learning rate as a function of the iteration."""

from __future__ import annotations

import math

from tdtrack.config import OptimizerConfig

__all__ = ["learning_rate_at", "peak_learning_rate"]


def peak_learning_rate(config: OptimizerConfig) -> float:
    """Return the learning rate where the cosine starts, scaled to the batch size if the settings ask for it.

    Args:
        config: the rate, the batch size, and the one the rate was chosen for.

    Source:
        Goyal et al., "Accurate, Large Minibatch SGD" (2017): k times the batch, k times the rate, after a warm-up that starts
        from the unscaled one. Not in the paper, which trains with batches of 16 and 32 at one rate.
    """
    scale = config.batch_size / config.learning_rate_batch if config.learning_rate_batch else 1.0
    return config.learning_rate * scale


def learning_rate_at(step: int, config: OptimizerConfig) -> float:
    """Return the learning rate of one iteration: linear warm-up, then a half cosine that would reach 0 after the last one.

    Args:
        step: iteration from 0, below ``config.steps``.
        config: rates and lengths.

    Source:
        Sec. 4.2, Supp. A. That the cosine starts where the warm-up ends is our reading; over the paper's 300K iterations it
        differs from a cosine over all of them by less than 1 % of the peak.
    """
    peak = peak_learning_rate(config)
    if step < config.warmup_steps:
        share = step / config.warmup_steps
        return config.warmup_learning_rate + share * (peak - config.warmup_learning_rate)
    share = (step - config.warmup_steps) / (config.steps - config.warmup_steps)
    return 0.5 * peak * (1 + math.cos(math.pi * share))
