"""Refusing values that nothing can work with."""

from __future__ import annotations

from tdtrack.errors import ConfigError

__all__ = ["require"]


def require(condition: bool, message: str) -> None:
    """Raise ``ConfigError`` with the message unless the condition holds."""
    if not condition:
        raise ConfigError(message)
