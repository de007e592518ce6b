"""Changing what an exported file says of itself, and nothing else in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tdtrack.errors import MissingExtraError
from tdtrack.files import atomic_write
from tdtrack.runtime import contract
from tdtrack.runtime.contract import ModelDescription

__all__ = ["rewrite_metadata"]


def rewrite_metadata(path: Path, description: ModelDescription, changed: Mapping[str, Any]) -> None:
    """Store what calibration fitted in an exported file.

    Args:
        path: the ``.onnx`` file.
        description: what it says of itself now.
        changed: entries of its metadata that are new.

    Raises:
        OutputError: the file cannot be rewritten.
        MissingExtraError: onnx is not installed.
    """
    if find_spec("onnx") is None:
        raise MissingExtraError("onnx", "train", "rewriting an exported model")
    import onnx

    model = onnx.load(path)
    said = replace(description, metadata={**description.metadata, **changed})
    kept = {entry.key: entry.value for entry in model.metadata_props}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {**kept, contract.METADATA_KEY: said.to_json()})
    with atomic_write(path, "wb") as file:
        file.write(model.SerializeToString())
