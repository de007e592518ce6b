"""Data sets in one form, images, MOT sequences and the embedding store."""

from tdtrack.data.dataset import AnnotatedImage, DetectionDataset, Problem
from tdtrack.data.load import load_dataset, load_source

__all__ = ["AnnotatedImage", "DetectionDataset", "Problem", "load_dataset", "load_source"]
