"""The learning rate as a function of the iteration."""

from __future__ import annotations

import math

from tdtrack.config import OptimizerConfig

__all__ = ["learning_rate_at"]


def learning_rate_at(step: int, config: OptimizerConfig) -> float:
    """Return the learning rate of one iteration: linear warm-up, then a half cosine that would reach 0 after the last one.

    Args:
        step: iteration from 0, below ``config.steps``.
        config: rates and lengths.

    Source:
        Sec. 4.2, Supp. A. That the cosine starts where the warm-up ends is our reading; over the paper's 300K iterations it
        differs from a cosine over all of them by less than 1 % of the peak.
    """
    if step < config.warmup_steps:
        share = step / config.warmup_steps
        return config.warmup_learning_rate + share * (config.learning_rate - config.warmup_learning_rate)
    share = (step - config.warmup_steps) / (config.steps - config.warmup_steps)
    return 0.5 * config.learning_rate * (1 + math.cos(math.pi * share))
