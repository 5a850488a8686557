"""visionxl.video: what is written comes back, upright and whole, and what is no video is refused in
one sentence.
"""

import json
import struct
import subprocess
import sys

import av  # noqa: TID253
import numpy as np
import pytest
import torch
from PIL import Image

from visionxl import video as V
from visionxl.media.contents import beside
from visionxl.media.tracks import Tracks


def psnr(a, b):
    return 10 * torch.log10(4 / ((a - b) ** 2).mean()).item()


def luma(x):
    return torch.einsum("tchw,c->thw", x, torch.tensor([0.2126, 0.7152, 0.0722]))


@pytest.fixture(scope="module")
def clip():
    return V.sample("flower", 5)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.webm", "a.mkv", "frames"])
@pytest.mark.parametrize("size", [(64, 96), (63, 97), (97, 64), (33, 33)])
def test_round_trip(tmp_path, clip, name, size):
    x = V.fit(clip.x, *size)
    for fps in (24, 30000 / 1001):
        V.write(tmp_path / name, x, fps, overwrite=True)
        y = V.read(tmp_path / name)
        assert y.x.shape == x.shape and y.x.dtype == torch.float32
        assert y.fps == pytest.approx(fps, abs=1e-9)
        assert psnr(luma(y.x), luma(x)) > 38 and psnr(y.x, x) > 26, (
            "colour is kept at half size, brightness at full"
        )
    p = V.probe(tmp_path / name)
    assert (p.frames, p.height, p.width) == (5, *size)


@pytest.mark.parametrize(
    "name, worst",
    [("a.mp4", 6e-4), ("a.mov", 6e-4), ("a.webm", 1e-6), ("frames", 1e-6), ("a.mkv", 1e-6)],
)
def test_lossless_keeps_every_bit(tmp_path, clip, name, worst):
    x = V.fit(clip.x, 47, 65)
    x8 = ((x + 1) * 127.5).round() / 127.5 - 1
    V.write(tmp_path / name, x8, lossless=True, task="sr", factor=4)
    y = V.read(tmp_path / name).x
    assert (y - x8).abs().max() < worst and torch.equal(
        ((y + 1) * 127.5).round(), ((x8 + 1) * 127.5).round()
    )
    assert V.probe(tmp_path / name).notes.items() >= {"task": "sr", "factor": 4}.items()


def test_mp4_holds_12_bits_where_it_can(tmp_path, clip):
    for size, bits in ((47, 65), 12), ((20, 40), 8):
        x = V.fit(clip.x, *size)
        V.write(tmp_path / "a.mp4", x, lossless=True, overwrite=True)
        assert (V.read(tmp_path / "a.mp4").x - x).abs().max() <= 2 / (2**bits - 1) and V.probe(
            tmp_path / "a.mp4"
        ).bits == bits


def test_mkv_holds_16_bits(tmp_path, clip):
    x = V.fit(clip.x, 47, 65)
    V.write(tmp_path / "a.mkv", x, lossless=True)
    assert (V.read(tmp_path / "a.mkv").x - x).abs().max() <= 1 / 65535 + 1e-6
    assert V.probe(tmp_path / "a.mkv").bits == 16


def test_gif(tmp_path, clip):
    V.write(tmp_path / "a.gif", clip.x, 20)
    y = V.read(tmp_path / "a.gif")
    assert y.x.shape == clip.x.shape and y.fps == pytest.approx(20) and psnr(y.x, clip.x) > 28
    with pytest.raises(ValueError, match="256 colours"):
        V.write(tmp_path / "b.gif", clip.x, lossless=True)
    assert not (tmp_path / "b.gif").exists()


def test_same_bytes(tmp_path, clip):
    for name in ("a.mp4", "a.mkv", "a.webm"):
        both = [
            V.write(tmp_path / f"{i}{name}", clip.x, 25, lossless=name == "a.mkv").read_bytes()
            for i in (0, 1)
        ]
        assert both[0] == both[1]


def test_h264_is_the_same_each_time(tmp_path):
    "With its fastest code x264 chose differently once in a few dozen runs (smooth small frames)."
    x = V.sample("tears", 9).x[..., :32, :48]
    x = torch.nn.functional.interpolate(x, scale_factor=2, mode="bicubic").clamp(-1, 1)
    kinds = {V.write(tmp_path / "a.mkv", x, overwrite=True).read_bytes() for _ in range(12)}
    assert len(kinds) == 1


def test_the_odd_edge_is_padded_not_cut(tmp_path, clip):
    x = V.fit(clip.x, 63, 97)
    V.write(tmp_path / "odd.mp4", x)
    with av.open(str(tmp_path / "odd.mp4")) as box:
        assert (box.streams.video[0].height, box.streams.video[0].width) == (64, 98)
    assert psnr(luma(V.read(tmp_path / "odd.mp4").x)[..., -1, :], luma(x)[..., -1, :]) > 34


def test_start_frames_and_fit(tmp_path, clip):
    V.write(tmp_path / "f", clip.x)
    assert torch.equal(V.read(tmp_path / "f", frames=2, start=1).x, V.read(tmp_path / "f").x[1:3])
    assert len(V.read(tmp_path / "f", frames=99).x) == 5
    assert V.read(tmp_path / "f", height=50, width=30).x.shape == (5, 3, 50, 30)
    assert V.read(tmp_path / "f", height=96).x.shape == (5, 3, 96, 160)
    assert V.read(tmp_path / "f", width=80).x.shape == (5, 3, 48, 80)
    for bad in (dict(start=5), dict(start=-1), dict(frames=0), dict(height=0), dict(width=-4)):
        with pytest.raises(ValueError):
            V.read(tmp_path / "f", **bad)


def test_fit_crops_the_middle():
    x = torch.zeros(1, 1, 8, 16)
    x[..., 4:12] = 1
    assert torch.equal(V.fit(x, 8, 8), torch.ones(1, 1, 8, 8))


def test_natural_order(tmp_path):
    for i in (0, 2, 10, 1):
        Image.new("RGB", (4, 4), (i, i, i)).save(tmp_path / f"frame{i}.png")
    assert [round((f[0, 0, 0].item() + 1) * 127.5) for f in V.read_frames(tmp_path)] == [
        0,
        1,
        2,
        10,
    ]


def test_sixteen_bit_png_and_jpeg(tmp_path):
    Image.fromarray(np.full((6, 8), 40000, np.uint16)).save(tmp_path / "0.png")
    assert V.read(tmp_path).x.unique().item() == pytest.approx(40000 / 32767.5 - 1, abs=1e-6)
    Image.new("L", (8, 6), 200).save(tmp_path / "1.jpg")
    assert V.read(tmp_path / "1.jpg").x.shape == (1, 3, 6, 8)


def test_rotation_tag(tmp_path):
    "A phone held upright writes a lying picture and a matrix: quarter turns are undone."
    x = torch.full((3, 3, 64, 96), -1.0)
    x[..., :32, :48] = 1  # bright corner at the top left
    f = V.write(tmp_path / "a.mp4", x)
    one, data = (
        struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30),
        bytearray(f.read_bytes()),
    )
    at = data.index(one, data.index(b"tkhd"))
    data[at : at + 36] = struct.pack(
        ">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 64 << 16, 0, 1 << 30
    )  # a quarter turn clockwise
    f.write_bytes(data)
    y = V.read(f).x
    assert y.shape == (3, 3, 96, 64) and (V.probe(f).height, V.probe(f).width) == (96, 64)
    assert y[..., :40, 40:].min() > 0.5 and y[..., 60:, :].max() < -0.5 and y[..., :20].max() < -0.5


def test_an_existing_file_is_safe(tmp_path, clip):
    f = tmp_path / "a.mp4"
    f.write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite"):
        V.write(f, clip.x)
    with pytest.raises(RuntimeError), V.writer(f, overwrite=True) as add:
        add(clip.x)
        raise RuntimeError("the power went")
    assert f.read_text() == "mine" and [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    V.write(f, clip.x, overwrite=True)
    assert V.probe(f).frames == 5 and [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_a_folder_with_other_things_is_never_replaced(tmp_path, clip):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "thesis.tex").write_text("years")
    with pytest.raises(FileExistsError, match="more than frames"):
        V.write(tmp_path / "d", clip.x, overwrite=True)
    assert (tmp_path / "d" / "thesis.tex").read_text() == "years"


def bad_inputs(d, clip):
    "Name, what the message must say, and a path that is no video."
    good = V.write(d / "good.mp4", clip.x).read_bytes()
    webm = V.write(d / "good.webm", clip.x).read_bytes()
    files = {
        "text.mp4": b"not a video at all",
        "empty.mp4": b"",
        "cut.mp4": good[: len(good) * 2 // 3],
        "head.mp4": good[:40],
        "cut.webm": webm[: len(webm) // 2],
        "text.webm": b"hello",
        "text.gif": b"hello",
        "text.png": b"hello",
    }
    for n, b in files.items():
        (d / n).write_bytes(b)
    (d / "void").mkdir()
    (d / "sizes").mkdir()
    (d / "text").mkdir()
    for i in (0, 1):
        Image.new("RGB", (8, 8 + i)).save(d / "sizes" / f"{i}.png")
    (d / "text" / "0.png").write_text("hello")
    yield from ((n, n) for n in files)
    yield from (("void", "holds no"), ("sizes", "one size"), ("text", "0.png"))


def test_what_is_no_video(tmp_path, clip):
    for name, says in bad_inputs(tmp_path, clip):
        with pytest.raises(ValueError) as e:
            V.read(tmp_path / name)
        assert says in str(e.value) and "\n" not in str(e.value), name
    with pytest.raises(FileNotFoundError, match="does not exist"):
        V.read(tmp_path / "nowhere.mp4")


def test_moov_first_and_cut_behind(tmp_path, clip):
    """A file that plays while it loads has its index first: cut short it still opens, and must be
    noticed.
    """
    f = tmp_path / "fast.mp4"
    with av.open(str(f), "w", options={"movflags": "faststart"}) as box:
        st = box.add_stream("libx264", 25)
        st.height, st.width, st.pix_fmt = 192, 320, "yuv420p"
        for x in clip.x:
            for p in st.encode(av.VideoFrame.from_ndarray(V.to_array(x), "rgb24")):
                box.mux(p)
        for p in st.encode():
            box.mux(p)
    data = f.read_bytes()
    f.write_bytes(data[: -len(data) // 3])
    with pytest.raises(ValueError, match="truncated"):
        V.read(f)


@pytest.mark.parametrize(
    "x, error, says",
    [
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), TypeError, "127.5"),
        (np.zeros((2, 3, 8, 8)), TypeError, "torch"),
        (torch.full((2, 3, 8, 8), 200.0), ValueError, "127.5"),
        (torch.full((2, 3, 8, 8), float("nan")), ValueError, "NaN"),
        (torch.full((2, 3, 8, 8), float("inf")), ValueError, "Inf"),
        (torch.zeros(2, 8, 8, 3), ValueError, "permute"),
        (torch.zeros(3, 8, 8), ValueError, "T, C, H, W"),
        (torch.zeros(0, 3, 8, 8), ValueError, "at least one"),
    ],
)
def test_what_is_no_tensor_video(tmp_path, x, error, says):
    with pytest.raises(error, match=says):
        V.write(tmp_path / "a.mp4", x)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name, error, says",
    [
        ("no/such/a.mp4", FileNotFoundError, "create it"),
        ("a.xyz", ValueError, ".mp4"),
        ("a.jpg", ValueError, "png"),
    ],
)
def test_where_nothing_can_be_written(tmp_path, clip, name, error, says):
    with pytest.raises(error, match=says):
        V.write(tmp_path / name, clip.x)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["12:30.mkv", "http:x.mkv", "file:a.mp4", "pipe:1.webm"])
def test_names_that_look_like_addresses(tmp_path, monkeypatch, name):
    "FFmpeg takes what stands before a colon for a protocol; a file is meant."
    monkeypatch.chdir(tmp_path)
    V.write(name, torch.zeros(2, 3, 32, 48))
    assert V.probe(name).frames == 2 and V.read(name).x.shape == (2, 3, 32, 48)
    with V.writer(f"c{name}", tracks=Tracks(name)) as add:
        add(V.read(name).x)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, f"c{name}"])


def test_a_name_that_is_too_long(tmp_path):
    "While a file is made, longer names stand beside it: that is said before the work."
    V.check_out(tmp_path / ("x" * 226 + ".mkv"))
    with pytest.raises(ValueError, match="too long: at most 230 bytes"):
        V.check_out(tmp_path / ("ü" * 119 + ".mkv"))


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_fps(tmp_path, clip, fps):
    with pytest.raises(ValueError, match="fps"):
        V.write(tmp_path / "a.mp4", clip.x, fps)


def test_broken_notes_are_no_notes(tmp_path, clip):
    V.write(tmp_path / "f", clip.x[:1])
    for text in ("", "[]", json.dumps({"visionxl": 3})):
        (tmp_path / "f" / "visionxl.json").write_text(text)
        assert V.probe(tmp_path / "f").notes == {}


def test_samples():
    for name in V.SAMPLES:
        x, fps = V.sample(name)
        assert x.shape == (25, 3, 192, 320) and fps > 23
        assert (x[1:] - x[:-1]).abs().mean((1, 2, 3)).max() < 0.2, "no cut inside"
    with pytest.raises(ValueError, match="flower"):
        V.sample("bird")


# ------------------------------------------------------------- what other programs leave behind


def film(path, pictures, codec="libx264", pixels="yuv420p", turn=None, **options):
    "Pictures (H, W, 3) as another program writes them: no note of ours."
    with av.open(str(path), "w", **options) as box:
        stream = box.add_stream(codec, 25)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixels
        if turn is not None and not hasattr(stream, "set_display_matrix"):
            pytest.skip("PyAV before 17.1 cannot write which way up a film is")
        if turn is not None:
            stream.set_display_matrix(turn)
        for a in pictures:
            box.mux(stream.encode(av.VideoFrame.from_ndarray(a, "rgb24")))
        box.mux(stream.encode())
    return path


def corner(h=64, w=96):
    "White at the top left, red at the top right, black below."
    a = np.zeros((h, w, 3), np.uint8)
    a[: h // 2, : w // 2] = 255
    a[: h // 2, w // 2 :, 0] = 255
    return a


ONE = 1 << 16
TURNS = {  # the display matrix, and the same turn by numpy
    "as stored": ((ONE, 0, 0, ONE), lambda a: a),
    "quarter, left": ((0, -ONE, ONE, 0), lambda a: np.rot90(a, 1)),
    "half": ((-ONE, 0, 0, -ONE), lambda a: np.rot90(a, 2)),
    "quarter, right": ((0, ONE, -ONE, 0), lambda a: np.rot90(a, 3)),
    "mirrored": ((-ONE, 0, 0, ONE), lambda a: a[:, ::-1]),
    "upside down": ((ONE, 0, 0, -ONE), lambda a: a[::-1]),
    "transposed": ((0, ONE, ONE, 0), lambda a: a.transpose(1, 0, 2)),
    "transverse": ((0, -ONE, -ONE, 0), lambda a: np.rot90(a, 2).transpose(1, 0, 2)),
}


def test_a_film_that_hangs_askew(tmp_path):
    "45 degrees: nothing here turns by that, and it is said."
    side = round(ONE * 0.5**0.5)
    matrix = (side, side, 0, -side, side, 0, 0, 0, 1 << 30)
    film(tmp_path / "a.mp4", [corner()] * 2, turn=matrix)
    assert any("tilted" in words for words in V.probe(tmp_path / "a.mp4").remarks)
    film(tmp_path / "b.mp4", [corner()] * 2, turn=(0, ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30))
    assert not V.probe(tmp_path / "b.mp4").remarks


@pytest.mark.parametrize("name", TURNS)
def test_every_display_matrix(tmp_path, name):
    (a, b, c, d), turn = TURNS[name]
    matrix = (a, b, 0, c, d, 0, 0, 0, 1 << 30)
    film(tmp_path / "a.mp4", [corner()] * 2, turn=None if name == "as stored" else matrix)
    want = torch.from_numpy(turn(corner()).copy()).permute(2, 0, 1) / 127.5 - 1
    got = V.read(tmp_path / "a.mp4").x[0]
    assert got.shape == want.shape and (got - want).abs().mean() < 0.1


@pytest.mark.parametrize(
    "rest", [b"\0" * 3, b"\0" * 100, b"hello from a camera", b"free", b"x" * 9]
)
def test_bytes_after_the_last_box(tmp_path, clip, rest):
    f = V.write(tmp_path / "a.mp4", clip.x)
    f.write_bytes(f.read_bytes() + rest)
    assert V.read(f).x.shape == clip.x.shape


@pytest.mark.parametrize("kind", ["mp4", "mkv", "webm"])
def test_damage_in_the_middle_is_never_silent(tmp_path, kind):
    noise = [np.random.default_rng(i).integers(0, 255, (64, 96, 3), np.uint8) for i in range(24)]
    f = film(tmp_path / f"a.{kind}", noise, "libvpx-vp9" if kind == "webm" else "libx264")
    data = bytearray(f.read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 8] = bytes(len(data) // 8)
    f.write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        V.read(f)


def test_a_note_that_no_longer_fits(tmp_path, clip):
    "An odd-sized film of ours, scaled by another program that keeps the comment."
    x = V.fit(clip.x, 63, 97)
    note = V.probe(V.write(tmp_path / "a.mp4", x)).notes
    assert note["size"] == [63, 97]
    with av.open(str(tmp_path / "b.mp4"), "w") as box:
        stream = box.add_stream("libx264", 25)
        stream.height, stream.width, stream.pix_fmt = 128, 196, "yuv420p"
        box.metadata["comment"] = json.dumps({"visionxl": note})
        box.mux(stream.encode(av.VideoFrame.from_ndarray(corner(128, 196), "rgb24")))
        box.mux(stream.encode())
    assert V.read(tmp_path / "b.mp4").x.shape == (1, 3, 128, 196)
    assert V.read(tmp_path / "a.mp4").x.shape == (5, 3, 63, 97)


@pytest.mark.parametrize(
    "note", [{"size": 3}, {"size": ["a", "b"]}, {"size": [1, 2, 3]}, {"fps": "fast"}, {"fps": -1}]
)
def test_nonsense_in_notes(tmp_path, clip, note):
    V.write(tmp_path / "f", clip.x[:2])
    (tmp_path / "f" / "visionxl.json").write_text(json.dumps({"visionxl": note}))
    video = V.read(tmp_path / "f")
    assert video.x.shape == (2, 3, 192, 320) and video.fps == 25
    V.write(tmp_path / "a.mkv", clip.x[:2], **note) if "fps" not in note else None
    assert "fps" in note or V.read(tmp_path / "a.mkv").x.shape == (2, 3, 192, 320)


@pytest.mark.parametrize(
    "names, says",
    [
        (["0.png", "1.png", "cover.png"], "cover.png"),
        (["0.png", "1.jpg"], "mixes .jpg and .png"),
        (["0.png", "1.webp"], "mixes .png and .webp"),
        (["1.png", "01.png"], "same number"),
    ],
)
def test_a_folder_is_one_series(tmp_path, names, says):
    for name in names:
        Image.new("RGB", (8, 6)).save(tmp_path / name)
    with pytest.raises(ValueError, match=says):
        V.read(tmp_path)


def test_kinds_of_pictures(tmp_path):
    for kind in ("webp", "tif", "png"):
        (tmp_path / kind).mkdir()
        for i in range(3):
            Image.new("RGB", (8, 6), (60 * i, 9, 0)).save(
                tmp_path / kind / f"{i}.{kind}", lossless=True
            )
        x = V.read(tmp_path / kind).x
        assert ((x[:, 0, 0, 0] + 1) * 127.5).round().tolist() == [0, 60, 120]


def test_moving_pictures(tmp_path):
    frames = [Image.new("RGB", (8, 6), (50 * i, 0, 0)) for i in range(4)]
    for kind in ("png", "webp"):
        kw = dict(save_all=True, append_images=frames[1:], duration=40, lossless=True)
        frames[0].save(tmp_path / f"a.{kind}", **kw)
        x, fps = V.read(tmp_path / f"a.{kind}")
        assert fps == 25 and ((x[:, 0, 0, 0] + 1) * 127.5).round().tolist() == [0, 50, 100, 150]
        assert V.probe(tmp_path / f"a.{kind}").frames == 4


def test_hidden_colour_stays_hidden(tmp_path):
    a = np.full((6, 8, 4), (250, 250, 250, 0), np.uint8)
    a[:, 4:, 3] = 255
    Image.fromarray(a).save(tmp_path / "0.png")
    x = V.read(tmp_path).x
    assert x[..., :4].max() == -1 and x[..., 4:].min() > 0.9


FILM = ("libx264", 32, 4, "default")  # codec, rows and columns, frames, what is said of it
COVER = ("mjpeg", 64, 1, "attached_pic")


@pytest.mark.parametrize(
    "kind, streams, best",
    [
        ("mp4", [COVER, FILM], 1),
        ("mp4", [FILM, COVER], 0),
        ("mkv", [("mjpeg", 64, 1, "forced"), FILM], 1),
        ("mkv", [FILM, ("libx264", 64, 4, "forced")], 0),
        ("mkv", [FILM, ("libx264", 64, 4, "default")], 1),
        ("mkv", [("libx264", 32, 4, "forced"), ("libx264", 64, 4, "forced")], 1),
        ("mp4", [FILM, ("libx264", 64, 4, "timed_thumbnails")], 0),
    ],
)
def test_the_film_not_the_cover(tmp_path, kind, streams, best):
    "A cover before or behind the film, a second film; both marked as default: the larger one."
    from av.stream import Disposition

    path = tmp_path / f"a.{kind}"
    with av.open(str(path), "w") as box:
        made = []
        for codec, side, _, mark in streams:
            made.append(box.add_stream(codec, 25))
            made[-1].height = made[-1].width = side
            made[-1].pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            made[-1].disposition = Disposition[mark]
        for stream, (_, side, frames, _) in zip(made, streams):
            a = np.full((side, side, 3), 50, np.uint8)
            for _ in range(frames):
                box.mux(stream.encode(av.VideoFrame.from_ndarray(a, "rgb24")))
            box.mux(stream.encode())
    side, frames = streams[best][1:3]
    assert V.read(path).x.shape == (frames, 3, side, side)
    covers = [s[3] for s in streams].count("attached_pic")
    assert [words.split(" (")[0] for words in beside(path)] == covers * ["cover picture"] + (
        len(streams) - 1 - covers
    ) * ["second film"]


# ---------------------------------------------------------------------- two runs, one name


def test_a_lock_is_held_once(tmp_path, clip):
    busy = pytest.raises(BlockingIOError, match="another run is writing")
    with V.locked(tmp_path / "a.mp4"), busy:
        V.write(tmp_path / "a.mp4", clip.x)
    V.write(tmp_path / "a.mp4", clip.x)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_a_lock_dies_with_its_owner(tmp_path):
    code = (
        "from visionxl import video; import time, sys\nwith "
        f"video.locked({str(tmp_path / 'a.mp4')!r}):\n print('held', flush=True); "
        "time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert owner.stdout.readline() == "held\n"
    with pytest.raises(BlockingIOError), V.locked(tmp_path / "a.mp4"):
        pass
    owner.kill()
    owner.wait()
    with V.locked(tmp_path / "a.mp4"):
        pass


def test_a_name_taken_meanwhile(tmp_path, clip):
    "Without overwrite nothing is replaced, even if it appeared during the run; the result is kept."
    taken = pytest.raises(FileExistsError, match="the result is in")
    with taken as e, V.writer(tmp_path / "a.mp4") as add:
        add(clip.x)
        (tmp_path / "a.mp4").write_text("mine")
    assert (tmp_path / "a.mp4").read_text() == "mine"
    kept = next(p for p in tmp_path.iterdir() if p.name != "a.mp4")
    assert kept.name in str(e.value) and V.probe(kept).frames == 5


def test_the_source_is_never_the_output(tmp_path, clip):
    f = V.write(tmp_path / "a.mp4", clip.x)
    (tmp_path / "d").mkdir()
    (tmp_path / "link.mp4").symlink_to(f)
    for out in (f, tmp_path / "link.mp4", tmp_path / "d" / ".." / "a.mp4"):
        with pytest.raises(FileExistsError, match="own source"):
            V.check_out(out, True, f)
    V.write(tmp_path / "frames", clip.x)
    for out, source in (
        ("frames", "frames"),
        ("frames", "frames/00000.png"),
        ("frames/b.mp4", "frames"),
    ):
        with pytest.raises(FileExistsError, match="own source"):
            V.check_out(tmp_path / out, True, tmp_path / source)
