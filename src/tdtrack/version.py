"""The version, in a module of its own: result files and metadata name it without loading the package."""

__version__ = "0.1.0"
