"""Re-ID networks that teach: loading them, annotating a data set with them, training one."""

from tdtrack.teacher.crops import crop_boxes
from tdtrack.teacher.load import ARCHITECTURES, Teacher, load_teacher

__all__ = ["ARCHITECTURES", "Teacher", "crop_boxes", "load_teacher"]
