"""From a video to tracks on disk, through a real network with random weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from media_files import cut, moving_squares, write_video
from random_models import save_random_model
from tdtrack.association import Tracker
from tdtrack.association.gallery import Gallery
from tdtrack.batch import track_many
from tdtrack.config import AssociationConfig, ModelConfig
from tdtrack.errors import ConfigError, DataError, OutputError
from tdtrack.model import JointModel, save_model
from tdtrack.runtime import TrackSummary, TwoStageEngine, load_engine, open_source, track_source
from tdtrack.runtime.frames import Frame, ImageSource
from tdtrack.track import TrackRequest, run_track, sequence_folders, track_one
from tdtrack.types import Detections, FloatArray, Image

EVERYTHING = AssociationConfig(method="fairmot", min_score=0.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = ModelConfig(
        backbone="mobilenetv3_small_050", embedding_dim=8, fpn_width=16, subnet_depth=1, subnet_width=16, embedding_width=8
    )
    folder = tmp_path_factory.mktemp("run")
    save_model(folder / "model.safetensors", JointModel(config), {"input_height": 96, "input_width": 160, "appearance": {}})
    return folder


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A network this small loses time to threads, the more so beside other work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class MeanColour:
    """A teacher whose vector is the mean colour of the crop."""

    dim = 3

    def embed(self, crops: Sequence[Image]) -> FloatArray:
        means = np.array([crop.reshape(-1, 3).mean(axis=0) for crop in crops], np.float32)
        return means / np.linalg.norm(means, axis=1, keepdims=True)


def track(video: Path, model: Path, out: Path, wrap: Callable = lambda engine: engine) -> TrackSummary:
    source = open_source(video)
    engine = wrap(load_engine(model, device="cpu", min_score=0.0, max_detections=12))
    return track_source(
        source,
        engine,
        Tracker(EVERYTHING, frame_rate=source.frame_rate),
        mot_path=out / f"{source.name}.txt",
        jsonl_path=out / f"{source.name}.jsonl",
        video_path=out / f"{source.name}.mp4",
        progress=False,
    )


def video_frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def check_results(out: Path, name: str, frames: int) -> None:
    """Text, JSON lines and video must tell the same story."""
    rows = np.loadtxt(out / f"{name}.txt", delimiter=",", ndmin=2)
    lines = [json.loads(line) for line in (out / f"{name}.jsonl").read_text().splitlines()]
    assert [line["frame_index"] for line in lines] == list(range(frames))
    from_lines = [(line["frame_index"] + 1, track["id"], *track["xyxy"]) for line in lines for track in line["tracks"]]
    corners = np.concatenate([rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]], axis=1)
    np.testing.assert_array_equal(rows[:, :2], np.array(from_lines)[:, :2])
    np.testing.assert_allclose(corners, np.array(from_lines)[:, 2:], atol=2e-3)
    assert len(rows) > frames
    assert video_frames(out / f"{name}.mp4") == frames
    assert sorted(path.name for path in out.iterdir()) == [f"{name}.jsonl", f"{name}.mp4", f"{name}.txt"]


def test_a_video_becomes_text_lines_and_video(tmp_path: Path, model: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", moving_squares(12))
    summary = track(clip, model, tmp_path / "out")
    check_results(tmp_path / "out", "clip", 12)
    assert (summary.frames, summary.detections, summary.truncated, summary.interrupted) == (12, 144, None, False)


def test_two_stages_see_the_same_boxes(tmp_path: Path, model: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", moving_squares(12))
    summary = track(clip, model, tmp_path / "out", lambda engine: TwoStageEngine(engine, MeanColour()))
    check_results(tmp_path / "out", "clip", 12)
    assert summary.detections == 144


def test_a_video_cut_short_is_tracked_as_far_as_it_goes(tmp_path: Path, model: Path) -> None:
    clip = cut(write_video(tmp_path / "clip.mp4", moving_squares(12), noise=40), 0.6)
    summary = track(clip, model, tmp_path / "out")
    assert 4 <= summary.frames < 12
    check_results(tmp_path / "out", "cut-clip", summary.frames)
    assert summary.truncated is not None
    assert any("12 frames are promised" in line for line in summary.lines())


def test_images_are_tracked_like_a_video(tmp_path: Path, model: Path) -> None:
    (tmp_path / "walk").mkdir()
    for number, frame in enumerate(moving_squares(4)):
        PillowImage.fromarray(frame).save(tmp_path / "walk" / f"{number}.png")
    assert track(tmp_path / "walk", model, tmp_path / "out").frames == 4
    check_results(tmp_path / "out", "walk", 4)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path, model: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", moving_squares(3))
    (tmp_path / "out").write_text("a file, not a folder")
    with pytest.raises(OutputError, match="out"):
        track(clip, model, tmp_path / "out")


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_ctrl_c_leaves_whole_files(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", moving_squares(500), group=250)
    program = (
        "import sys, time\n"
        "from tdtrack.association import Tracker\n"
        "from tdtrack.config import AssociationConfig\n"
        "from tdtrack.runtime import open_source, track_source\n"
        "from tdtrack.types import Detections\n"
        "class Engine:\n"
        "    classes, embedding_dim, metadata = ('person',), None, {}\n"
        "    def __call__(self, frame):\n"
        "        time.sleep(0.02)\n"
        "        return Detections([[10, 10, 50, 90]], [0.9], [0])\n"
        "clip, out = sys.argv[1:]\n"
        "tell = lambda frame, found, tracks: print(frame.index, flush=True)\n"
        "summary = track_source(open_source(clip), Engine(), Tracker(AssociationConfig(method='motion')),\n"
        "    jsonl_path=out + '/a.jsonl', video_path=out + '/a.mp4', progress=False, on_frame=tell)\n"
        "print('interrupted', summary.interrupted, summary.frames, flush=True)\n"
    )
    command = [sys.executable, "-c", program, str(clip), str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while process.stdout.readline().strip() != "5":
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        last = process.stdout.read().splitlines()[-1].split()
    assert process.returncode == 0
    assert last[:2] == ["interrupted", "True"]
    frames = int(last[2])
    assert 6 <= frames < 500
    assert len((tmp_path / "out" / "a.jsonl").read_text().splitlines()) == frames
    assert video_frames(tmp_path / "out" / "a.mp4") == frames


def test_a_real_sequence_runs_through(tmp_path: Path, model: Path, shared_data: Path) -> None:
    summary = track(shared_data / "mot17-mini" / "MOT17-09-FRCNN", model, tmp_path / "out")
    check_results(tmp_path / "out", "MOT17-09-FRCNN", summary.frames)
    assert summary.truncated is not None
    assert "525 frames are promised" in summary.truncated


def test_sequences_are_tracked_with_one_model_and_a_scene_once(model: Path, tmp_path: Path) -> None:
    root = tmp_path / "MOT17"
    for name in ("MOT17-02-DPM", "MOT17-02-FRCNN", "MOT17-04-DPM", "MOT17-05-DPM"):
        (root / name / "img1").mkdir(parents=True)
        info = "frameRate=10\nseqLength=2\nimWidth=64\nimHeight=48\n"
        (root / name / "seqinfo.ini").write_text(f"[Sequence]\nname={name}\n{info}")
        for frame in (1, 2):
            PillowImage.new("RGB", (64, 48), (80, 90, 100)).save(root / name / "img1" / f"{frame:06d}.jpg")
    request = TrackRequest(model=str(model), out=str(tmp_path / "out"), video=False, device="cpu")
    names = ("MOT17-02-DPM", "MOT17-02-FRCNN", "MOT17-02-SDP", "MOT17-04-DPM")
    done = list(track_many(request, sequence_folders(str(root), names), {"min_score": 0.0}))
    assert [entry["name"] for entry in done] == ["MOT17-02", "MOT17-04-DPM"]
    assert all(entry["frames"] == 2 for entry in done)
    assert sorted(path.name for path in (tmp_path / "out").glob("*.txt")) == ["MOT17-02.txt", "MOT17-04-DPM.txt"]
    with pytest.raises(DataError, match="no sequence MOT17-09-DPM here"):
        sequence_folders(str(root), ("MOT17-02-DPM", "MOT17-09-DPM"))
    with pytest.raises(ConfigError, match="--sequences needs one SOURCE"):
        sequence_folders(None, names)


def test_an_exported_file_tracks_a_video_without_torch(tmp_path: Path) -> None:
    """As after ``pip install .``: in a process where torch cannot be imported."""
    from tdtrack.config import DetectConfig
    from tdtrack.runtime.export import export_model

    clip = write_video(tmp_path / "clip.mp4", moving_squares(12))
    run = save_random_model(tmp_path / "run", embedding_dim=8)
    export_model(run, tmp_path / "model.onnx", detect=DetectConfig(min_score=0.2, max_detections=12))
    program = (
        "import sys\n"
        "for name in ('torch', 'torchvision', 'timm', 'onnx', 'pyarrow'): sys.modules[name] = None\n"
        "from tdtrack.cli import main\n"
        "status = main(sys.argv[1:])\n"
        "assert not any(name.split('.')[0] == 'torch' and module for name, module in sys.modules.items())\n"
        "sys.exit(status)\n"
    )
    for engine in ("onnxruntime", "auto"):
        words = ["track", clip, "--model", tmp_path / "model.onnx", "--out", tmp_path / engine, "--engine", engine]
        command = [sys.executable, "-c", program, *map(str, words), "--tracker.min_score", "0.0"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "engine: " in done.stdout and "12 frames" in done.stdout
        check_results(tmp_path / engine, "clip", 12)


class TwoStand:
    """Finds the same two everywhere."""

    classes, embedding_dim, metadata = ("person",), 2, MappingProxyType({"appearance": {}})

    def __call__(self, frame: Image) -> Detections:
        return Detections([[10, 10, 30, 60], [90, 10, 120, 70]], [0.9, 0.8], [0, 0], [[1, 0], [0.6, 0.8]])


def test_a_gallery_names_the_tracks_of_the_next_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tdtrack.runtime.engine.load_engine", lambda *_, **__: TwoStand())
    video = write_video(tmp_path / "a.mp4", moving_squares(12))
    gallery = tmp_path / "people"
    known = {"source": str(video), "model": "any", "video": False, "gallery": str(gallery)}

    first = run_track(TrackRequest(out=str(tmp_path / "one"), enroll=True, **known), {})
    names = json.loads((tmp_path / "one" / "a.names.json").read_text())
    assert names == {"1": {"name": "object-1", "cosine": None}, "2": {"name": "object-2", "cosine": None}}
    assert {tmp_path / "one" / "a.names.json", gallery / "looks.npz"} <= set(first.files)

    second = run_track(TrackRequest(out=str(tmp_path / "two"), **known), {})
    again = json.loads((tmp_path / "two" / "a.names.json").read_text())
    assert again == {"1": {"name": "object-1", "cosine": 1.0}, "2": {"name": "object-2", "cosine": 1.0}}
    assert gallery / "looks.npz" not in second.files
    lines = [json.loads(line)["tracks"] for line in (tmp_path / "two" / "a.jsonl").read_text().splitlines()]
    said = [{track["id"]: track.get("name") for track in tracks} for tracks in lines]
    known_from = next(index for index, names in enumerate(said) if set(names.values()) != {None})
    assert 0 < known_from < 11, "a name needs a few looks"
    assert said[known_from:] == [{1: "object-1", 2: "object-2"}] * (12 - known_from)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"source": "a.mp4", "enroll": True}, "--enroll adds to a gallery"),
        ({"source": "a.mp4", "gallery": "g", "offline": True}, "leave one out"),
        ({"detections": "a.npz", "gallery": "g"}, "not saved detections"),
    ],
)
def test_a_gallery_that_could_not_work_is_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        run_track(TrackRequest(out="x", **settings), {})
    if "source" in settings:
        with pytest.raises(ConfigError, match=complaint):
            list(track_many(TrackRequest(out="x", **settings), {"a": "a.mp4"}, {}))


def test_a_gallery_that_knows_nobody_is_refused_unless_it_is_to_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tdtrack.runtime.engine.load_engine", lambda *_, **__: TwoStand())
    video = str(write_video(tmp_path / "a.mp4", moving_squares(4)))
    request = TrackRequest(out=str(tmp_path), source=video, model="any", video=False, gallery=str(tmp_path / "nobody"))
    (tmp_path / "nobody").mkdir()
    (tmp_path / "nobody" / "anna.heic").touch()
    with pytest.raises(DataError, match="knows nobody; put photos"):
        run_track(request, {})


def test_results_never_take_the_place_of_what_is_tracked(tmp_path: Path, model: Path) -> None:
    video = write_video(tmp_path / "a.mp4", moving_squares(4))
    before = video.read_bytes()
    here = TrackRequest(out=str(tmp_path), source=str(video), model=str(model), device="cpu")
    with pytest.raises(ConfigError, match=r"written over .*a\.mp4, which is to be tracked; choose another --out"):
        run_track(here, {})
    other = write_video(tmp_path / "b.mkv", moving_squares(4))
    with pytest.raises(ConfigError, match=r"written over .*a\.mp4"):  # the other one's results, by name
        list(track_many(here, {"a": str(other), "b": str(video)}, {}))
    assert video.read_bytes() == before and not (tmp_path / "a.txt").exists()

    saved = tmp_path / "a.txt"
    saved.write_text("1,-1,10,10,20,40,0.9,-1,-1,-1\n")
    with pytest.raises(ConfigError, match=r"written over .*a\.txt"):
        run_track(TrackRequest(out=str(saved), detections=str(saved), association="motion"), {})
    assert saved.read_text().startswith("1,-1,")


def test_the_tracks_of_saved_detections_end_where_they_are_told_to(tmp_path: Path) -> None:
    saved = tmp_path / "found.txt"
    saved.write_text("".join(f"{frame},-1,10,10,20,40,0.9,-1,-1,-1\n" for frame in range(1, 9)))
    request = {"out": str(tmp_path / "tracks.txt"), "detections": str(saved), "association": "motion"}
    assert run_track(TrackRequest(**request, max_frames=5), {}).frames == 5
    for number in (0, -3):
        with pytest.raises(ConfigError, match=f"max_frames is {number}; it must be at least 1"):
            run_track(TrackRequest(**request, max_frames=number), {})
    assert (tmp_path / "tracks.txt").read_text().splitlines()[-1].startswith("5,")
    with pytest.raises(ConfigError, match="frame_rate is 0"):
        run_track(TrackRequest(**request, frame_rate=0), {})


def test_improved_tracks_have_the_time_stamps_of_their_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Uneven(ImageSource):
        def __iter__(self) -> Iterator[Frame]:
            for frame in super().__iter__():
                yield Frame(frame.index, 0.3 * frame.index**2, frame.image)

    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, image in enumerate(moving_squares(5)):
        PillowImage.fromarray(image).save(folder / f"{index}.png")
    source = Uneven("pictures", sorted(folder.iterdir()), frame_rate=10)
    monkeypatch.setattr("tdtrack.runtime.sources.open_source", lambda *_, **__: source)
    request = TrackRequest(out=str(tmp_path), video=False, offline=True)
    track_one(request, str(folder), (TwoStand(), {}), {}, progress=False)
    seconds = [json.loads(line)["seconds"] for line in (tmp_path / "pictures.jsonl").read_text().splitlines()]
    assert seconds == pytest.approx([0, 0.3, 1.2, 2.7, 4.8])
    source.live = True
    with pytest.raises(ConfigError, match="pictures is live; leave it out") as refused:
        track_one(request, "rtsp://anna:secret@host/pictures", (TwoStand(), {}), {}, progress=False)
    assert "secret" not in str(refused.value)


def test_a_video_that_is_stopped_enrols_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(TwoStand):
        seen = 0

        def __call__(self, frame: Image) -> Detections:
            self.seen += 1
            if self.seen == 10:
                signal.raise_signal(signal.SIGINT)
            return super().__call__(frame)

    engines: list[TwoStand] = [Stopped(), TwoStand(), TwoStand()]
    monkeypatch.setattr("tdtrack.runtime.engine.load_engine", lambda *_, **__: engines.pop(0))
    video = str(write_video(tmp_path / "a.mp4", moving_squares(30)))
    known = {"source": video, "model": "any", "video": False, "enroll": True}
    stopped = TrackRequest(out=str(tmp_path / "one"), gallery=str(tmp_path / "people"), **known)
    assert run_track(stopped, {}).interrupted
    assert not (tmp_path / "people" / "looks.npz").exists()
    run_track(stopped, {})
    run_track(TrackRequest(out=str(tmp_path / "two"), gallery=str(tmp_path / "others"), **known), {})
    for name in ("a.names.json", "a.jsonl", "a.txt"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_video_that_was_killed_once_it_had_enrolled_does_not_meet_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tdtrack.runtime.engine.load_engine", lambda *_, **__: TwoStand())
    people, known = tmp_path / "people" / "looks.npz", {"model": "any", "video": False, "enroll": True}
    for name in "ab":
        write_video(tmp_path / f"{name}.mp4", moving_squares(12))

    def track(name: str) -> list[bytes]:
        run_track(
            TrackRequest(source=str(tmp_path / f"{name}.mp4"), out=str(tmp_path / "out"), gallery=str(people.parent), **known),
            {},
        )
        results = [tmp_path / "out" / f"{name}.{ending}" for ending in ("names.json", "jsonl", "txt")]
        return [path.read_bytes() for path in [people, *results]]

    undisturbed = track("a")
    with monkeypatch.context() as patch:
        patch.setattr("tdtrack.runtime.enrolment.readable_json", lambda *_, **__: 1 / 0)
        people.unlink()
        with pytest.raises(ZeroDivisionError):
            track("a")
    assert people.read_bytes() == undisturbed[0]  # the gallery has it, the names have not
    assert track("a") == undisturbed
    assert json.loads(track("b")[1])["1"] == {"name": "object-1", "cosine": 1.0}
    assert [len(Gallery.load(people).looks(name)) for name in ("object-1", "object-2")] == [2, 2]


def test_of_a_scene_the_copy_with_images_is_tracked(tmp_path: Path) -> None:
    (tmp_path / "MOT17-02-DPM" / "det").mkdir(parents=True)
    (tmp_path / "MOT17-02-FRCNN" / "img1").mkdir(parents=True)
    (tmp_path / "MOT17-02-FRCNN" / "img1" / "000001.jpg").touch()
    found = sequence_folders(str(tmp_path), ["MOT17-02-DPM", "MOT17-02-FRCNN"])
    assert found == {"MOT17-02": str(tmp_path / "MOT17-02-FRCNN")}
