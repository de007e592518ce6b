"""Settings of the synthetic world."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from tdtrack.errors import ConfigError

__all__ = ["WalkersConfig", "stream"]


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return the random stream of one named thing in the world.

    Every scene, look and walk draws from a stream of its own, so that it does not depend on what else was made, in which
    order, or in which process.

    Args:
        seed: the world's seed, at least 0.
        names: what the stream is for, for instance ``"scene", "sequence", 3``.
    """
    return np.random.default_rng([seed, *(zlib.crc32(str(name).encode()) for name in names)])


@dataclass(frozen=True)
class WalkersConfig:
    """The synthetic world, all derived from ``seed`` (not in the paper: ours, so that a demo needs no downloads).

    As it stands it is the world of ``tdtrack demo``. It is tuned so that a small detector learns it in minutes, while
    a tracker that knows only positions confuses people: few frames per second, a moving camera, crossings, people who
    turn back behind things, leave and return, and groups of people who look alike.

    Attributes:
        seed: everything derives from it, at least 0.
        width: of a frame, in pixels.
        height: of a frame, in pixels.
        frame_rate: frames per second of videos and sequences.
        min_people: people a scene tries to keep in view, lower end; each scene draws its own number.
        max_people: upper end of the same.
        reid_identities: identities of the Re-ID set's training part.
        reid_test_identities: further identities of its query and gallery.
        crops_per_identity: crops of each, over all cameras that see the identity.
        reid_cameras: cameras of the Re-ID set, each with its own scene and style.
        cameras_per_identity: how many of them see one identity.
        detection_videos: training videos, each a scene of its own.
        detection_frames: frames taken from each.
        validation_videos: held-out videos of the detection set.
        validation_frames: frames taken from each.
        detection_gap: seconds between two frames taken from one video; sparse frames differ more.
        sequences: MOT sequences, each with its own scene and cast.
        sequence_frames: their length in frames.
        camera_motion: strength of pan, hand shake and zoom; 0 is a fixed camera.
        occluders: mean number of things people walk behind, per scene.
        lookalike_fraction: share of identities that belong to a group whose members differ in one or two attributes.
        return_rate: probability that someone who leaves the view comes back after one to three seconds.
        restlessness: abrupt stops, turns and changes of mind, per person and second.
        group_rate: probability that someone enters with company.
        box_jitter: standard deviation of a Re-ID crop's sides, as a fraction of the box (detectors are not exact either).
        min_visibility: people less visible than this are marked as neither right nor wrong to find.
    """

    seed: int = 0
    width: int = 448
    height: int = 256
    frame_rate: float = 12.0
    min_people: int = 6
    max_people: int = 9
    reid_identities: int = 180
    reid_test_identities: int = 40
    crops_per_identity: int = 16
    reid_cameras: int = 8
    cameras_per_identity: int = 4
    detection_videos: int = 28
    detection_frames: int = 25
    validation_videos: int = 5
    validation_frames: int = 12
    detection_gap: float = 0.9
    sequences: int = 4
    sequence_frames: int = 160
    camera_motion: float = 1.0
    occluders: float = 4.0
    lookalike_fraction: float = 0.5
    return_rate: float = 0.8
    restlessness: float = 0.25
    group_rate: float = 0.2
    box_jitter: float = 0.04
    min_visibility: float = 0.2

    def __post_init__(self) -> None:
        """Refuse a world that cannot be made.

        Raises:
            ConfigError: names the setting, its value and its range.
        """
        at_least = {"seed": 0, "width": 96, "height": 64, "min_people": 1, "reid_identities": 0, "reid_test_identities": 0}
        at_least |= {"crops_per_identity": 2, "reid_cameras": 1, "cameras_per_identity": 1, "detection_videos": 0}
        at_least |= {
            "detection_frames": 1,
            "validation_videos": 0,
            "validation_frames": 1,
            "sequences": 0,
            "sequence_frames": 1,
        }
        at_least |= {"camera_motion": 0, "occluders": 0, "restlessness": 0, "detection_gap": 0, "box_jitter": 0}
        for name, least in at_least.items():
            if not getattr(self, name) >= least:
                raise ConfigError(f"walkers: {name} is {getattr(self, name)}; it must be at least {least}")
        for name in ("lookalike_fraction", "return_rate", "group_rate", "min_visibility"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"walkers: {name} is {getattr(self, name)}; it must lie in 0..1")
        if not 1 <= self.frame_rate <= 60:
            raise ConfigError(f"walkers: frame_rate is {self.frame_rate}; it must lie in 1..60 frames per second")
        if self.max_people < self.min_people:
            raise ConfigError(f"walkers: max_people {self.max_people} is below min_people {self.min_people}; raise it")
        if self.cameras_per_identity > self.reid_cameras:
            raise ConfigError(
                f"walkers: cameras_per_identity {self.cameras_per_identity} is more than the {self.reid_cameras} reid_cameras; "
                f"lower it"
            )
