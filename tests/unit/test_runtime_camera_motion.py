"""The camera's motion against known warps of a textured picture, and what becomes of tracks with it."""

from __future__ import annotations

import builtins
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

pytest.importorskip("cv2", reason="camera motion needs the extra tdtrack[camera]")

from tdtrack.errors import ConfigError, MissingExtraError
from tdtrack.runtime.camera_motion import LOOK_EVERY, STILL_FRAMES, CameraMotion, camera_motion_for
from tdtrack.track import TrackRequest, run_track
from tdtrack.types import Detections, FloatArray, Image

NOBODY = np.zeros((0, 4), np.float32)


def scene(seed: int, height: int, width: int) -> Image:
    """A picture with corners all over."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return np.asarray(PillowImage.fromarray(coarse).resize((width, height), PillowImage.Resampling.BICUBIC))


def seen_after(picture: Image, affine: np.ndarray) -> Image:
    """What the camera shows after it moved. Pillow wants the inverse, and counts from the corner of a pixel."""
    from_corner = affine.copy()
    from_corner[:, 2] += 0.5 - affine[:, :2] @ [0.5, 0.5]
    inverse = np.linalg.inv(np.vstack([from_corner, [0, 0, 1]]))[:2]
    return np.array(
        PillowImage.fromarray(picture).transform(
            (picture.shape[1], picture.shape[0]),
            PillowImage.Transform.AFFINE,
            tuple(inverse.ravel()),
            PillowImage.Resampling.BICUBIC,
        )
    )


def turned(angle: float, scale: float, right: float, down: float) -> np.ndarray:
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[cosine, -sine, right], [sine, cosine, down]])


@pytest.mark.parametrize("size", [(200, 320), (720, 1280), (360, 200)])
@pytest.mark.parametrize(
    "motion", [(0.0, 1.0, 9.0, -5.0), (0.01, 1.0, 0.0, 0.0), (0.0, 1.02, -3.0, 2.0), (-0.008, 0.99, 6.0, 4.0)]
)
def test_a_known_motion_is_found(size: tuple[int, int], motion: tuple[float, float, float, float]) -> None:
    height, width = size
    unit = max(size) / 384  # a pixel of the small picture
    affine = turned(motion[0], motion[1], motion[2] * unit, motion[3] * unit)
    camera = CameraMotion()
    picture = scene(0, height, width)
    assert camera.advance(picture, NOBODY) is None, "nothing comes before the first frame"
    found = camera.advance(seen_after(picture, affine), NOBODY)
    assert found is not None
    places = np.array([[x, y, 1] for x in (0.2, 0.5, 0.8) for y in (0.2, 0.5, 0.8)]) * [width, height, 1]
    np.testing.assert_allclose(places @ found.T, places @ affine.T, atol=0.3 * max(1.0, unit))


def test_people_who_walk_are_not_taken_for_the_camera() -> None:
    """Two thirds of the picture move to the right, and are known to be people."""
    picture, crowd = scene(1, 240, 320), scene(2, 240, 320)
    before, after = picture.copy(), seen_after(picture, turned(0, 1, -4, 3))
    before[:, 100:300] = crowd[:, 100:300]
    after[:, 100:300] = crowd[:, 93:293]
    camera = CameraMotion()
    camera.advance(before, np.array([[104, 0, 296, 240]], np.float32))
    found = camera.advance(after, NOBODY)
    assert found is not None
    np.testing.assert_allclose(found, turned(0, 1, -4, 3), atol=0.3)


def test_a_standing_camera_a_cut_and_an_empty_wall_give_none() -> None:
    picture = scene(3, 240, 320)
    noise = np.random.default_rng(0).integers(-4, 5, picture.shape)
    wall = np.full_like(picture, 120)
    for second in (picture, np.clip(picture + noise, 0, 255).astype(np.uint8), scene(4, 240, 320), wall, scene(3, 120, 160)):
        camera = CameraMotion()
        camera.advance(picture, NOBODY)
        assert camera.advance(second, NOBODY) is None
    camera = CameraMotion()
    camera.advance(wall, NOBODY)
    assert camera.advance(picture, NOBODY) is None


def test_a_slow_pan_adds_up() -> None:
    picture = scene(6, 240, 320)
    camera = CameraMotion()
    camera.advance(picture, NOBODY)
    found = [camera.advance(seen_after(picture, turned(0, 1, 0.2 * step, 0)), NOBODY) for step in range(1, 41)]
    told = [affine for affine in found if affine is not None]
    assert 10 < len(told) < 25, "no step of 0.2 pixels is told alone"
    assert sum(affine[0, 2] for affine in told) == pytest.approx(8, abs=0.5)


def test_a_camera_that_stands_is_looked_at_now_and_then_and_its_motion_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    usual = CameraMotion._shrink
    monkeypatch.setattr(CameraMotion, "_shrink", lambda self, image: looks.append(1) or usual(self, image))
    picture = scene(7, 240, 320)
    camera = CameraMotion()
    for _ in range(1 + STILL_FRAMES + 10 * LOOK_EVERY):
        assert camera.advance(picture, NOBODY) is None
    assert len(looks) == 1 + STILL_FRAMES + 10
    moved = seen_after(picture, turned(0, 1, 6, 2))
    found = [camera.advance(moved, NOBODY) for _ in range(LOOK_EVERY)]
    (told,) = [affine for affine in found if affine is not None]
    np.testing.assert_allclose(told, turned(0, 1, 6, 2), atol=0.3)


def test_who_follows_the_camera_when() -> None:
    assert isinstance(camera_motion_for("auto", "evidence"), CameraMotion)
    assert camera_motion_for("auto", "fairmot") is None, "the paper's association is left as it is"
    assert isinstance(camera_motion_for("on", "fairmot"), CameraMotion)
    assert camera_motion_for("off", "evidence") is None
    with pytest.raises(ConfigError, match="camera motion is 'maybe'; choose one of auto, on, off"):
        camera_motion_for("maybe", "evidence")


def test_without_opencv_auto_does_without_and_on_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "cv2":
            raise ImportError("libGL.so.1: cannot open shared object file")
        return usual(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    assert camera_motion_for("auto", "evidence") is None
    with pytest.raises(MissingExtraError, match=r"pip install 'tdtrack\[camera\]'"):
        camera_motion_for("on", "evidence")


class TwoPeople:
    """Knows where two people stand in front of a panning camera, and gives them no looks."""

    classes, embedding_dim, metadata = ("person",), None, MappingProxyType({"appearance": {}})

    def __init__(self, pan: FloatArray) -> None:
        self.pan, self.frame, self.looked = pan, 0, 0

    def __call__(self, _: Image) -> Detections:
        shift = self.pan[self.frame]
        self.frame, self.looked = self.frame + 1, self.looked + 1
        left = np.array([60.0, 90.0]) + shift
        return Detections(np.stack([left, [40, 40], left + 20, [100, 100]], axis=1), [0.9, 0.9], [0, 0])


def panned(folder: Path, pan: FloatArray) -> Path:
    """Frames of a camera that swings."""
    folder.mkdir()
    wide = scene(5, 160, 640)
    for index, shift in enumerate(pan.astype(int).tolist()):
        PillowImage.fromarray(wide[:, 200 - shift : 440 - shift]).save(folder / f"{index + 1:06d}.png")
    return folder


def test_tracks_survive_a_swinging_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """People stand 30 pixels apart and the picture jumps by 25: by place alone they are taken for each other."""
    pan = np.where(np.arange(24) // 6 % 2 == 1, 25.0, 0.0)
    frames = panned(tmp_path / "frames", pan)
    given = {}
    for choice in ("off", "on"):
        monkeypatch.setattr("tdtrack.runtime.engine.load_engine", lambda *_, **__: TwoPeople(pan))
        request = TrackRequest(out=str(tmp_path / choice), source=str(frames), model="any", video=False, camera_motion=choice)
        summary = run_track(request, {})
        rows = np.loadtxt(tmp_path / choice / "frames.txt", delimiter=",")
        given[choice] = summary.camera_moved, len(np.unique(rows[:, 1])), rows
    assert given["off"][0] == 0 and given["off"][1] > 2
    assert given["on"][:2] == (3, 2)
    rows = given["on"][2]
    left = rows[rows[:, 1] == 1]
    np.testing.assert_allclose(left[:, 2] - pan[left[:, 0].astype(int) - 1], 61, atol=3)  # MOT counts pixels from 1


def test_a_killed_job_follows_the_camera_as_an_undisturbed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pan = np.where(np.arange(24) // 6 % 2 == 1, 25.0, 0.0)
    frames = panned(tmp_path / "frames", pan)
    engine = TwoPeople(pan)
    monkeypatch.setattr("tdtrack.runtime.engine.load_engine", lambda *_, **__: engine)
    whole = TrackRequest(out=str(tmp_path / "whole"), source=str(frames), model="any", video=False)
    run_track(whole, {})
    engine.frame = 0
    usual = CameraMotion.advance
    calls = []

    def stopped(self: CameraMotion, image: Image, xyxy: FloatArray) -> Any:
        calls.append(image)
        if len(calls) == 11:
            raise RuntimeError("killed")
        return usual(self, image, xyxy)

    monkeypatch.setattr(CameraMotion, "advance", stopped)
    again = TrackRequest(out=str(tmp_path / "again"), source=str(frames), model="any", video=False)
    with pytest.raises(RuntimeError, match="killed"):
        run_track(again, {})
    assert (tmp_path / "again" / "frames.resume").is_file()
    looked = engine.looked
    run_track(again, {})
    assert engine.looked - looked < 24, "what was found before is taken up"
    for name in ("frames.txt", "frames.jsonl"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
