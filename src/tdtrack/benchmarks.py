"""MOTChallenge's benchmarks: which sequences each has, how long they are, and sets of them by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tdtrack.errors import ConfigError

__all__ = ["BENCHMARKS", "DETECTORS", "Benchmark", "known_sequence", "named_sequences", "scene_of", "sequence_sets"]

DETECTORS = ("DPM", "FRCNN", "SDP")
"""Public detectors of MOT17, which ships every scene once for each."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark.

    Attributes:
        name: as MOTChallenge writes it.
        train: frames of each training sequence, in the benchmark's order.
        test: the same of the test sequences, whose ground truth is not public.
    """

    name: str
    train: Mapping[str, int]
    test: Mapping[str, int]

    def sequences(self, split: str) -> dict[str, int]:
        """Return the frames of each sequence of ``train``, ``test`` or ``all``.

        Raises:
            ConfigError: there is no such split.
        """
        if split == "all":
            return {**self.train, **self.test}
        if split not in ("train", "test"):
            raise ConfigError(f"{self.name} has no split {split!r}; its splits are train, test and all")
        return dict(self.train if split == "train" else self.test)


_MOT15_TRAIN = {
    "TUD-Stadtmitte": 179,
    "TUD-Campus": 71,
    "PETS09-S2L1": 795,
    "ETH-Bahnhof": 1000,
    "ETH-Sunnyday": 354,
    "ETH-Pedcross2": 837,
    "ADL-Rundle-6": 525,
    "ADL-Rundle-8": 654,
    "KITTI-13": 340,
    "KITTI-17": 145,
    "Venice-2": 600,
}
_MOT15_TEST = {
    "TUD-Crossing": 201,
    "PETS09-S2L2": 436,
    "ETH-Jelmoli": 440,
    "ETH-Linthescher": 1194,
    "ETH-Crossing": 219,
    "AVG-TownCentre": 450,
    "ADL-Rundle-1": 500,
    "ADL-Rundle-3": 625,
    "KITTI-16": 209,
    "KITTI-19": 1059,
    "Venice-1": 450,
}
_SCENES_TRAIN = {"02": 600, "04": 1050, "05": 837, "09": 525, "10": 654, "11": 900, "13": 750}
_SCENES_TEST = {"01": 450, "03": 1500, "06": 1194, "07": 500, "08": 625, "12": 900, "14": 750}
_SCENE_RATES = {"05": 14.0, "06": 14.0, "13": 25.0, "14": 25.0}  # all others have 30 frames per second


def _copies(scenes: Mapping[str, int]) -> dict[str, int]:
    return {f"MOT17-{scene}-{detector}": length for scene, length in scenes.items() for detector in DETECTORS}


BENCHMARKS = {
    "MOT15": Benchmark("MOT15", _MOT15_TRAIN, _MOT15_TEST),
    "MOT16": Benchmark(
        "MOT16",
        {f"MOT16-{scene}": length for scene, length in _SCENES_TRAIN.items()},
        {f"MOT16-{scene}": length for scene, length in _SCENES_TEST.items()},
    ),
    "MOT17": Benchmark("MOT17", _copies(_SCENES_TRAIN), _copies(_SCENES_TEST)),
    "MOT20": Benchmark(
        "MOT20",
        {"MOT20-01": 429, "MOT20-02": 2782, "MOT20-03": 2405, "MOT20-05": 3315},
        {"MOT20-04": 2080, "MOT20-06": 1008, "MOT20-07": 585, "MOT20-08": 806},
    ),
}
"""Lengths are those that the sequences' ``seqinfo.ini`` state."""

_FRAME_RATES: Mapping[str, float] = {
    **dict.fromkeys(("TUD-Stadtmitte", "TUD-Campus", "TUD-Crossing"), 25.0),
    **dict.fromkeys(("PETS09-S2L1", "PETS09-S2L2"), 7.0),
    **dict.fromkeys(("ETH-Bahnhof", "ETH-Sunnyday", "ETH-Pedcross2", "ETH-Jelmoli", "ETH-Linthescher", "ETH-Crossing"), 14.0),
    **dict.fromkeys(("ADL-Rundle-1", "ADL-Rundle-3", "ADL-Rundle-6", "ADL-Rundle-8", "Venice-1", "Venice-2"), 30.0),
    **dict.fromkeys(("KITTI-13", "KITTI-16", "KITTI-17", "KITTI-19"), 10.0),
    "AVG-TownCentre": 2.5,
    **{
        name: _SCENE_RATES.get(name.split("-")[1], 30.0)
        for key in ("MOT16", "MOT17")
        for name in BENCHMARKS[key].sequences("all")
    },
    **dict.fromkeys(BENCHMARKS["MOT20"].sequences("all"), 25.0),
}
# Frames per second: of MOT15 as its paper lists them (Tab. 1), for its archive does not; of the others as their seqinfo.ini do.

_MOT15_VALIDATION = ("ETH-Sunnyday", "KITTI-13", "KITTI-17", "PETS09-S2L1", "TUD-Campus", "TUD-Stadtmitte")
# Sec. 4.1: "six video sequences from the MOT15 training set", without those that MOT17 has too; Tab. 4 names ETH-Sunnyday and
# KITTI-13. MOT17 shows four of the eleven (Venice-2 is its 02, ETH-Pedcross2 05, ADL-Rundle-6 09, ADL-Rundle-8 10: the lengths
# agree to the frame), which leaves seven. That ETH-Bahnhof is the one left out is our reading: JDE's list of ETH training
# images begins with a sequence as long as it, so it would be learned from and validated on.


def sequence_sets() -> dict[str, tuple[str, ...]]:
    """Return every named set of sequences.

    Returns:
        ``MOT15-val`` is the paper's validation set; ``MOT17-train`` is all 21 copies, ``MOT17-train-FRCNN`` those of one
        detector.
    """
    sets = {
        f"{name}-{split}": tuple(benchmark.sequences(split))
        for name, benchmark in BENCHMARKS.items()
        for split in ("train", "test")
    }
    for split in ("train", "test"):
        for detector in DETECTORS:
            sets[f"MOT17-{split}-{detector}"] = tuple(name for name in sets[f"MOT17-{split}"] if name.endswith(f"-{detector}"))
    return {**sets, "MOT15-val": _MOT15_VALIDATION}


def known_sequence(name: str) -> tuple[int, float] | None:
    """Return number of frames and frames per second of a sequence of any benchmark; ``None`` for any other."""
    lengths = [benchmark.sequences("all").get(name) for benchmark in BENCHMARKS.values()]
    length = next((length for length in lengths if length is not None), None)
    return None if length is None else (length, _FRAME_RATES[name])


def named_sequences(names: str) -> tuple[str, ...]:
    """Return the sequences that ``--sequences`` asks for.

    Args:
        names: a named set, or names of sequences with commas between them.

    Raises:
        ConfigError: a name is empty.
    """
    by_name = {name.lower(): sequences for name, sequences in sequence_sets().items()}
    if names.lower() in by_name:
        return by_name[names.lower()]
    found = tuple(name.strip() for name in names.split(","))
    if not all(found):
        sets = ", ".join(sequence_sets())
        raise ConfigError(f"sequences is {names!r}; pass names with commas between them, or one of {sets}")
    return found


def scene_of(sequence: str) -> str:
    """Return the scene a sequence shows: MOT17's copies without their detector, any other sequence itself."""
    scene, _, detector = sequence.rpartition("-")
    return scene if scene.startswith("MOT17-") and detector in DETECTORS else sequence
