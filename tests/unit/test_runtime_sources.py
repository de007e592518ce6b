from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageOps

from media_files import cut, moving_squares, turn, write_video
from tdtrack.errors import ConfigError, MediaError
from tdtrack.output.video import VideoWriter
from tdtrack.runtime.sources import open_source

CONTAINERS = ["mp4", "ts", "mkv", "avi"]


def save_images(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        PillowImage.fromarray(np.full((8, 12, 3), 10 * number, np.uint8)).save(folder / name)


def write_sequence(folder: Path, numbers: list[int], length: int) -> None:
    save_images(folder / "img1", [f"{number:06d}.jpg" for number in numbers])
    (folder / "seqinfo.ini").write_text(
        f"[Sequence]\nname=walk\nimDir=img1\nframeRate=14\nseqLength={length}\nimWidth=12\nimHeight=8\nimExt=.jpg\n"
    )


def test_mot15_is_tracked_as_published_without_seqinfo(tmp_path: Path) -> None:
    save_images(tmp_path / "TUD-Campus" / "img1", ["000002.jpg", "000005.jpg"])
    source = open_source(tmp_path / "TUD-Campus")
    assert (source.name, source.frame_rate, source.length, source.width, source.height) == ("TUD-Campus", 25.0, 71, 12, 8)
    assert [frame.index for frame in source] == [1, 4]
    with pytest.raises(MediaError, match=r"name one of its sequences, for instance .*TUD-Campus"):
        open_source(tmp_path)
    (tmp_path / "TUD-Campus").rename(tmp_path / "mine")
    with pytest.raises(MediaError, match=r"mine is no sequence of MOTChallenge; write .*mine/seqinfo\.ini with the lines"):
        open_source(tmp_path / "mine")


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_whole_video_gives_every_frame(tmp_path: Path, container: str) -> None:
    frames = moving_squares(30)
    source = open_source(write_video(tmp_path / f"clip.{container}", frames))
    got = list(source)
    assert (source.name, source.frame_rate, source.width, source.height) == ("clip", 25.0, 160, 96)
    assert source.length == 30
    assert source.truncated is None
    assert [frame.index for frame in got] == list(range(30))
    np.testing.assert_allclose([frame.seconds for frame in got], np.arange(30) / 25, atol=1e-3)
    for frame, wanted in zip(got, frames, strict=True):
        assert frame.image.shape == wanted.shape
        assert np.abs(frame.image.astype(int) - wanted).mean() < 5  # the walking square alone would cost more, one frame off


def test_own_videos_come_back_in_their_colours_and_rate(tmp_path: Path) -> None:
    patches = np.kron(np.array([[[250, 20, 20], [20, 250, 20]], [[20, 20, 250], [200, 120, 60]]]), np.ones((32, 32, 1)))
    with VideoWriter(tmp_path / "clip.mp4", frame_rate=30000 / 1001, crf=5) as writer:
        writer.write(patches.astype(np.uint8))
    source = open_source(tmp_path / "clip.mp4")
    (frame,) = source
    assert source.frame_rate == 30000 / 1001
    for row in (16, 48):
        for column in (16, 48):  # BT.601 read as BT.709 would be off by 20 and more
            np.testing.assert_allclose(frame.image[row, column], patches[row, column], atol=6)


def test_equal_frames_make_equal_files(tmp_path: Path) -> None:
    frames, made = moving_squares(40), set()
    for _ in range(6):
        with VideoWriter(tmp_path / "clip.mp4", frame_rate=25) as writer:
            for frame in frames:
                writer.write(frame)
        made.add((tmp_path / "clip.mp4").read_bytes())
    assert len(made) == 1


def test_iterating_again_starts_from_the_beginning(tmp_path: Path) -> None:
    source = open_source(write_video(tmp_path / "clip.mp4", moving_squares(10)))
    first = [frame.image for frame in source]
    again = [frame.image for frame in source]
    np.testing.assert_array_equal(first, again)
    half = iter(source)
    next(half)
    assert [frame.index for frame in source] == list(range(10))


def test_a_given_frame_rate_overrides_the_stated_one(tmp_path: Path) -> None:
    source = open_source(write_video(tmp_path / "clip.mp4", moving_squares(5)), frame_rate=10)
    assert source.frame_rate == 10
    assert [frame.seconds for frame in source] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert source.truncated is None


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_video_cut_short_gives_its_frames_and_says_so(tmp_path: Path, container: str) -> None:
    whole = write_video(tmp_path / f"clip.{container}", moving_squares(40), noise=40)
    expected = [frame.image for frame in open_source(whole)]
    source = open_source(cut(whole, 0.6))
    got = [frame.image for frame in source]
    assert 18 <= len(got) <= 26
    np.testing.assert_array_equal(got[:18], expected[:18])
    assert source.truncated is not None
    if container != "ts":  # a transport stream promises no length; its torn last packet betrays the cut
        assert "40 frames are promised" in source.truncated
        assert f"{len(got)} could be decoded" in source.truncated


@pytest.mark.parametrize("container", CONTAINERS)
def test_damage_in_the_middle_is_reported(tmp_path: Path, container: str) -> None:
    path = write_video(tmp_path / f"clip.{container}", moving_squares(40), noise=40)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 20_000] = np.random.default_rng(1).bytes(20_000)
    path.write_bytes(content)
    source = open_source(path)
    assert 10 <= len(list(source)) <= 40
    assert source.truncated is not None


def test_an_early_stop_is_no_truncation(tmp_path: Path) -> None:
    source = open_source(write_video(tmp_path / "clip.mp4", moving_squares(10)))
    for frame in source:
        if frame.index == 3:
            break
    source.close()
    source.close()
    assert source.truncated is None


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_turned_phone_gives_upright_frames(tmp_path: Path, degrees: int) -> None:
    path = write_video(tmp_path / "clip.mp4", moving_squares(3))
    lying = [frame.image for frame in open_source(path)]
    source = open_source(turn(path, degrees))
    upright = [frame.image for frame in source]
    assert (source.height, source.width) == ((160, 96) if degrees in (90, 270) else (96, 160))
    for before, after in zip(lying, upright, strict=True):
        np.testing.assert_array_equal(after, np.rot90(before, degrees // 90))


@pytest.mark.parametrize("tag", range(1, 9))
def test_photos_come_upright_but_a_sequence_as_its_boxes_see_it(tmp_path: Path, tag: int) -> None:
    exif = PillowImage.Exif()
    exif[0x0112] = tag
    picture = PillowImage.fromarray(moving_squares(1)[0])
    (tmp_path / "walk").mkdir()
    picture.save(tmp_path / "walk" / "1.png", exif=exif)
    write_sequence(tmp_path / "MOT-01", [1], 1)
    picture.save(tmp_path / "MOT-01" / "img1" / "000001.jpg", exif=exif, quality=100)
    upright = np.asarray(ImageOps.exif_transpose(PillowImage.open(tmp_path / "walk" / "1.png")))
    for place in (tmp_path / "walk", tmp_path / "walk" / "1.png"):
        source = open_source(place)
        (frame,) = source
        assert (source.height, source.width) == upright.shape[:2]
        np.testing.assert_array_equal(frame.image, upright)
    sequence = open_source(tmp_path / "MOT-01")
    (frame,) = sequence
    assert (sequence.width, sequence.height) == (frame.image.shape[1], frame.image.shape[0]) == picture.size


def test_images_come_in_natural_order(tmp_path: Path) -> None:
    save_images(tmp_path / "walk", ["10.png", "2.png", "1.png", "b.png", "a3.png"])
    (tmp_path / "walk" / "notes.txt").write_text("not a frame")
    source = open_source(tmp_path / "walk")
    assert (source.name, source.length, source.width, source.height, source.frame_rate) == ("walk", 5, 12, 8, 30.0)
    got = list(source)
    assert [int(frame.image[0, 0, 0]) for frame in got] == [20, 10, 0, 40, 30]  # 1, 2, 10, a3, b
    assert [frame.index for frame in got] == [0, 1, 2, 3, 4]
    assert source.truncated is None


def test_an_unreadable_image_leaves_a_gap_and_is_reported(tmp_path: Path) -> None:
    save_images(tmp_path / "walk", ["1.png", "2.png", "3.png"])
    (tmp_path / "walk" / "2.png").write_bytes(b"no image")
    source = open_source(tmp_path / "walk", frame_rate=10)
    assert [(frame.index, frame.seconds) for frame in source] == [(0, 0.0), (2, 0.2)]
    assert source.truncated is not None
    assert "1 of 3 images cannot be read" in source.truncated
    assert "2.png" in source.truncated


def test_frames_that_go_away_in_mid_run_are_an_error_and_no_gap(tmp_path: Path) -> None:
    save_images(tmp_path / "walk", ["1.png", "2.png", "3.png"])
    frames = iter(open_source(tmp_path / "walk"))
    assert next(frames).index == 0
    (tmp_path / "walk").rename(tmp_path / "away")
    with pytest.raises(MediaError, match=r"2\.png: has gone or is out of reach \(No such file.*run again"):
        next(frames)


def test_a_video_is_only_short_where_its_file_can_still_be_read(tmp_path: Path) -> None:
    path = cut(write_video(tmp_path / "clip.mp4", moving_squares(40), noise=6), 0.5)
    source = open_source(path)
    frames = iter(source)
    next(frames)
    path.rename(tmp_path / "away.mp4")  # what is missing may be missing because of that
    with pytest.raises(MediaError, match="has gone or is out of reach"):
        list(frames)
    (tmp_path / "away.mp4").rename(path)
    assert len(list(source)) > 1 and source.truncated is not None


def test_a_single_image_is_a_video_of_one_frame(tmp_path: Path) -> None:
    save_images(tmp_path, ["one.png"])
    source = open_source(str(tmp_path / "one.png"))
    assert (source.name, source.length, [frame.index for frame in source]) == ("one", 1, [0])


def test_a_mot_sequence_keeps_its_numbers_and_its_promise(tmp_path: Path) -> None:
    write_sequence(tmp_path / "walk", [1, 2, 5], length=9)
    source = open_source(tmp_path / "walk")
    assert (source.name, source.frame_rate, source.length) == ("walk", 14.0, 9)
    assert [(frame.index, frame.seconds) for frame in source] == [(0, 0.0), (1, 1 / 14), (4, 4 / 14)]
    assert source.truncated == "9 frames are promised, 3 images are there"


def make_sound(path: Path) -> None:
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(1600))


def make_headless(path: Path) -> None:
    whole = write_video(path.with_name("whole.mp4"), moving_squares(3))
    path.write_bytes(whole.read_bytes()[:300])


def make_bodyless(path: Path) -> None:
    content = write_video(path.with_name("whole.mp4"), moving_squares(3)).read_bytes()
    path.write_bytes(content[: content.index(b"mdat") + 20])


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("none.mp4", lambda path: None, "No such file"),
        ("text.mp4", lambda path: path.write_text("hello"), "Invalid data"),
        ("empty.mp4", lambda path: path.touch(), "Invalid data"),
        ("sound.wav", make_sound, "no video stream"),
        ("headless.mp4", make_headless, "no video stream"),
        ("bodyless.mp4", make_bodyless, "not one frame can be decoded"),
        ("folder", lambda path: path.mkdir(), "holds no images"),
        ("text.png", lambda path: path.write_text("hello"), "not an image of a known format; replace it or remove it"),
        ("sequences", lambda path: write_sequence(path / "MOT-01", [1], 1), "MOT-01"),
        ("no-frames", lambda path: write_sequence(path, [], 3), "holds no .jpg images"),
        ("bad-sequence", lambda path: (path.mkdir(), (path / "seqinfo.ini").write_text("[Sequence]\n")), "seqinfo.ini"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_name_and_the_reason(tmp_path: Path, name: str, make, reason: str) -> None:
    make(tmp_path / name)
    with pytest.raises(MediaError) as caught:
        open_source(tmp_path / name)
    assert name in str(caught.value)
    assert reason in str(caught.value)


@pytest.mark.parametrize("number", [63, "63"])
def test_an_absent_camera_is_named(number: int | str) -> None:
    with pytest.raises(MediaError, match="camera 63: cannot be opened"):
        open_source(number)


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_silent_server_is_named_without_the_password(scheme: str) -> None:
    with pytest.raises(MediaError) as caught:
        open_source(f"{scheme}://user:secret@127.0.0.1:9/live?token=hidden")
    assert f"{scheme}://127.0.0.1:9/live: cannot be opened" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("address", ["rtsp://admin:pa[ss@host/ch1", "rtsp://[fe80::1/x"])
def test_an_address_that_is_none_is_refused_without_its_password(address: str) -> None:
    with pytest.raises(MediaError, match=r"cannot be read as one .*; write signs such as") as caught:
        open_source(address)
    assert "pa[ss" not in str(caught.value)


@pytest.mark.parametrize("rate", [0, -5.0, float("nan"), float("inf")])
def test_a_frame_rate_must_be_positive(tmp_path: Path, rate: float) -> None:
    with pytest.raises(ConfigError, match="frame_rate"):
        open_source(tmp_path, frame_rate=rate)


def test_real_videos_are_whole(shared_data: Path) -> None:
    source = open_source(shared_data / "videos" / "walking-crowd-grey.mp4")
    assert (source.width, source.height, source.length, source.frame_rate) == (1280, 720, 341, 25.0)
    assert sum(1 for _ in source) == 341
    assert source.truncated is None


def test_a_real_sequence_opens(shared_data: Path) -> None:
    source = open_source(shared_data / "mot17-mini" / "MOT17-02-FRCNN")
    frames = list(source)
    assert (source.name, source.length, len(frames)) == ("MOT17-02-FRCNN", 600, 4)
    assert frames[0].image.shape == (1080, 1920, 3)
    assert source.truncated == "600 frames are promised, 4 images are there"
