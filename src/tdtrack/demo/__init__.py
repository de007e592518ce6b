"""``tdtrack demo``: a world, a teacher, a model that learns from it, and three ways to link what it detects."""

from tdtrack.demo.page import DemoResult
from tdtrack.demo.run import run_demo

__all__ = ["DemoResult", "run_demo"]
