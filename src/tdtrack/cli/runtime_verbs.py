"""Verbs that make a trained model run elsewhere, and faster: export, quantize."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser
from rich.console import Console

from tdtrack.cli.parsing import Settings, Verb, add_config, add_layout, add_skip_bad_boxes, write_json
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


def _quantize_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", type=str, help=".onnx file made by tdtrack export")
    parser.add_argument("--data", type=str, required=True, help="your boxes: file or folder of a data set of any layout")
    add_layout(parser)
    add_skip_bad_boxes(parser)
    parser.add_argument("--out", type=str, required=True, help="the int8 .onnx file to write")
    parser.add_argument("--calibration-images", type=int, default=200, help="how many images to calibrate on, at most half")
    parser.add_argument("--max-images", type=int, default=500, help="how many of the others to measure on")
    parser.add_argument("--json", type=str, default="", help="also write what it cost to this file")


def _quantize(settings: Settings, console: Console) -> int:
    from tdtrack.runtime.quantize import quantize_model

    how = {name: settings[name] for name in ("images", "format", "split", "box")}
    report = quantize_model(
        settings["model"],
        settings["data"],
        settings["out"],
        **how,
        skip_bad=settings["skip_bad_boxes"],
        calibration_images=settings["calibration_images"],
        max_images=settings["max_images"],
    )
    for line in report.lines():
        console.print(line, markup=False, highlight=False)
    if settings["json"]:
        write_json(Path(settings["json"]), report.to_dict())
    return 0


VERBS = {
    "export": Verb("write a trained model as one .onnx file that runs without torch", _export_arguments, _export),
    "quantize": Verb("make an int8 file, calibrated on your images, and measure what it cost", _quantize_arguments, _quantize),
}
