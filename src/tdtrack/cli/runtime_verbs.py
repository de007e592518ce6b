"""Verbs that make a trained model run elsewhere, and faster: export, quantize."""

from __future__ import annotations

from jsonargparse import ArgumentParser
from rich.console import Console

from tdtrack.cli.parsing import Settings, Verb, add_config
from tdtrack.config import DetectConfig


def _export_arguments(parser: ArgumentParser) -> None:
    add_config(parser, "export settings")
    parser.add_argument("model", type=str, help="run folder or .safetensors file")
    parser.add_argument("--out", type=str, required=True, help="the .onnx file to write")
    parser.add_argument("--batch", type=int, default=None, help="images per call; default: any number")
    parser.add_class_arguments(DetectConfig, "detect")


def _export(settings: Settings, console: Console) -> int:
    from tdtrack.runtime.export import export_model

    description = export_model(settings["model"], settings["out"], detect=settings["detect"], batch=settings["batch"])
    console.print(
        f"{settings['out']}: {description.input_height}x{description.input_width} input, {len(description.classes)} classes, "
        f"embeddings of {description.embedding_dim}, at most {description.max_detections} detections",
        f"next: tdtrack track VIDEO --model {settings['out']} --out tracks",
        sep="\n",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    return 0


VERBS = {
    "export": Verb("write a trained model as one .onnx file that runs without torch", _export_arguments, _export),
}
