"""One door to every supported data set."""

from __future__ import annotations

from pathlib import Path

from tdtrack.data.coco import default_images, read_coco
from tdtrack.data.dataset import DetectionDataset
from tdtrack.data.mot import read_mot_dataset
from tdtrack.errors import DataError

__all__ = ["load_dataset"]


def load_dataset(annotations: Path | str, images: Path | str = "", *, skip_bad: bool = False) -> DetectionDataset:
    """Read a data set: a COCO JSON file, or a folder of MOTChallenge sequences.

    Args:
        annotations: the JSON file; or one sequence folder, or a folder that holds sequence folders.
        images: folder that a COCO file's file names are relative to; empty takes ``images`` beside the file, or the file's own
            folder where there is none. Sequences bring their images.
        skip_bad: leave out boxes and images that cannot be used instead of stopping at the first.

    Returns:
        The images in order of image id.

    Raises:
        DataError: there is no such data set, it is damaged or empty, or a box or image in it cannot be used.
    """
    path = Path(annotations)
    if path.is_dir():
        if images:
            raise DataError(f"{path} is a folder of sequences, which bring their own images; leave --images {images} out")
        return read_mot_dataset(path, skip_bad=skip_bad)
    return read_coco(path, images or default_images(path), skip_bad=skip_bad)
