"""House rules that no linter knows."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tdtrack
from tdtrack import config, errors

SOURCE = Path(tdtrack.__file__).parent
REPOSITORY = Path(__file__).resolve().parents[2]
MODULES = sorted(SOURCE.rglob("*.py"))


def test_every_module_fits_in_a_head() -> None:
    assert len(MODULES) > 50
    too_long = {str(path.relative_to(SOURCE)): lines for path in MODULES if (lines := len(path.read_text().splitlines())) > 450}
    assert not too_long


def test_no_name_says_thresh() -> None:
    offenders = [
        f"{path.relative_to(SOURCE)}:{node.lineno} {name}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        for name in [getattr(node, "id", None) or getattr(node, "arg", None) or getattr(node, "name", None)]
        if isinstance(name, str) and "thresh" in name.lower()
    ]
    assert not offenders


def test_the_exception_tree_in_the_docstring_is_the_real_one() -> None:
    drawn = set(re.findall(r"\b(\w+Error)\b", errors.__doc__ or ""))
    real = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == errors.__name__
    }
    assert drawn == real
    assert all(issubclass(getattr(errors, name), errors.TdtrackError) for name in real)


def _records() -> list[type]:
    return [getattr(config, name) for name in config.__all__]


@pytest.mark.parametrize("record", _records(), ids=lambda record: record.__name__)
def test_every_setting_says_what_it_means(record: type) -> None:
    documented = set(re.findall(r"^ {4}(\w+): ", inspect.getdoc(record) or "", flags=re.MULTILINE))
    fields = {field.name for field in dataclasses.fields(record)}
    assert fields, "a record without settings"
    assert fields == documented


def test_records_were_discovered() -> None:
    assert len(_records()) == 11


def test_public_names_exist_and_load_lazily() -> None:
    assert len(tdtrack.__all__) >= 13
    for name in tdtrack.__all__:
        assert getattr(tdtrack, name) is not None


def test_all_lists_name_what_is_there() -> None:
    checked = 0
    for module in pkgutil.walk_packages([str(SOURCE)], "tdtrack."):
        try:
            loaded = importlib.import_module(module.name)
        except errors.MissingExtraError:  # an engine whose package is not installed here
            continue
        for name in getattr(loaded, "__all__", []):
            assert hasattr(loaded, name), f"{module.name}.__all__ names {name}"
            checked += 1
    assert checked > 60


@pytest.mark.parametrize(
    "statement",
    [
        "import tdtrack.cli",
        "import tdtrack.association, tdtrack.data.replay, tdtrack.output.mot",
        "from tdtrack import Tracker, Detections",
        "import tdtrack.evaluation.tracking, tdtrack.data.coco, tdtrack.data.mot",
        "import tdtrack.runtime.sources, tdtrack.runtime.pipeline",
    ],
)
def test_the_light_runtime_does_not_load_torch(statement: str) -> None:
    code = f"{statement}\nimport sys\nassert 'torch' not in sys.modules, 'torch was imported'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_nothing_is_unpickled_that_could_run_code() -> None:
    offenders = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import) and any(alias.name == "pickle" for alias in node.names):
                offenders.append(f"{path.name}:{node.lineno} imports pickle")
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"torch.load", "np.load"}:
                settings = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                if settings.get("weights_only") != "True" and settings.get("allow_pickle") != "False":
                    offenders.append(f"{path.name}:{node.lineno} {ast.unparse(node)}")
    assert not offenders
