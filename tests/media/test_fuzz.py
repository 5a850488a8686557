"Files of random and of damaged bytes: a clear sentence or frames, never an error of ours."

import contextlib
import io
import os
import resource
from pathlib import Path

import pytest
from app.exact import run
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from visionxl import video
from visionxl.app.degradation.masks import PictureMask
from visionxl.media.tracks import Tracks

KINDS = ("mp4", "mkv", "webm", "mov", "gif", "png", "apng", "jpg", "webp", "tif")
HEADS = (b"", b"\0\0\0\x18ftypmp42", b"\x1aE\xdf\xa3", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF")
HEADS += (b"\xff\xd8\xff\xe0", b"II*\0", b"FLV\x01", b"OggS", b"\0\0\1\xba", b"\x47\x40\0\x10")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    "The bytes of a small good file of each kind."
    d = tmp_path_factory.mktemp("good")
    x = video.fit(video.sample("tears", 3).x, 32, 48)
    for kind in ("mp4", "mkv", "webm", "mov", "gif"):
        video.write(d / f"a.{kind}", x, 24)
    frames = [Image.fromarray(video.to_array(f)) for f in x]
    frames[0].save(d / "a.png")
    frames[0].save(d / "a.apng", "PNG", save_all=True, append_images=frames[1:])
    frames[0].save(d / "a.jpg")
    frames[0].save(d / "a.webp")
    frames[0].save(d / "a.tif", save_all=True, append_images=frames[1:])
    return {kind: (d / f"a.{kind}").read_bytes() for kind in KINDS}


ZEROS = st.integers(1, 300).map(bytes)
EDITS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=12)
DAMAGE = st.tuples(st.sampled_from(KINDS), EDITS, st.floats(0, 1), st.binary(max_size=40))


def damaged(whole, damage):
    "A good file with some bytes changed, most of them near its beginning; cut; with others behind."
    kind, edits, length, more = damage
    data = bytearray(whole[kind])
    for place, byte in edits:
        data[int(place**3 * len(data))] = byte
    return kind, bytes(data[: int((1 - length**4) * len(data))] + more)


def answered(path):
    "Everything that reads a film, on one file; returns the sentences of what was refused."
    said = []
    for read in (
        video.probe,
        lambda p: sum(1 for _ in video.read_frames(p, 8)),
        lambda p: Tracks(p).times,
        lambda p: PictureMask.read(p),
    ):
        try:
            read(path)
        except (ValueError, FileNotFoundError) as e:
            said.append(str(e))
    return said


def tried(folder, kind, data):
    "One file by every reader and by `visionxl info`."
    path = Path(folder) / f"a.{'png' if kind == 'apng' else kind}"
    path.write_bytes(data)
    for sentence in answered(path):
        assert 20 < len(sentence) < 600 and "\n" not in sentence.strip(), sentence
    err = io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        assert run("info", path) in (0, 1)
    said = err.getvalue()
    assert "unexpected" not in said and "Traceback" not in said and said.count("\n") <= 1, said


QUICK = settings(max_examples=15, deadline=None, derandomize=True)
LONG = settings(max_examples=int(os.environ.get("VISIONXL_FUZZ", 1500)), deadline=None)
RANDOM = st.tuples(st.sampled_from(KINDS), st.sampled_from(HEADS), st.binary(max_size=300) | ZEROS)


@QUICK
@given(DAMAGE)
def test_damaged_files(whole, tmp_path_factory, damage):
    tried(tmp_path_factory.getbasetemp(), *damaged(whole, damage))


@QUICK
@given(RANDOM)
def test_random_bytes(tmp_path_factory, given):
    kind, head, data = given
    tried(tmp_path_factory.getbasetemp(), kind, head + data)


def peak():
    "The largest memory of this process so far, in bytes."
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.slow
def test_many_damaged_files(whole, tmp_path_factory):
    """A long run, and its memory: a frame of as many pixels as are read takes 0.4 GB in 8 bits and
    1.6 as numbers of 32 bits; whole films are never kept.
    """
    folder, before = tmp_path_factory.getbasetemp(), peak()

    @LONG
    @given(DAMAGE)
    def by_damage(damage):
        tried(folder, *damaged(whole, damage))

    @LONG
    @given(RANDOM)
    def by_chance(given):
        kind, head, data = given
        tried(folder, kind, head + data)

    by_damage()
    by_chance()
    assert peak() - before < 4e9
