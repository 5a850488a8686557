"In and out: bits, colours, fields, transparency, codecs. Every file is made here, by PyAV."

import os
import struct
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av  # noqa: TID253
import cv2  # noqa: TID253
import numpy as np
import pytest
import torch
from app.exact import Gaussian
from av.codec.context import CodecContext  # noqa: TID253
from PIL import Image

from visionxl import video as V
from visionxl.app.cli.main import main
from visionxl.app.files.clip import Clip
from visionxl.app.files.degrade_file import degrade_file
from visionxl.app.files.restore_file import restore_file
from visionxl.media import pictures
from visionxl.media.colours import Colours, Light
from visionxl.media.contents import beside, lost_in
from visionxl.media.encoders import CODEC_NAMES, Encoding, encoder_for, film_encoder
from visionxl.media.pictures import check_pixels
from visionxl.media.tracks import Tracks, frame_times
from visionxl.prior.latent import Prior


@pytest.fixture(autouse=True)
def no_weights(monkeypatch):
    monkeypatch.setattr(Prior, "load", classmethod(lambda cls, name: Gaussian()))


def deep_film(path, values, colours, codec="libx265", pixels="yuv420p10le", frames=6, **options):
    "One colour per frame, 16 bits in, as another program writes it: tagged, without our note."
    options = options or {"x265-params": "log-level=none", "crf": "2"}
    with av.open(str(path), "w") as box:
        stream = box.add_stream(codec, 25, options=options)
        stream.height, stream.width, stream.pix_fmt = 48, 64, pixels
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = colours
        for i in range(frames):
            a = np.full((48, 64, 3), values, np.uint16) + np.uint16(64 * 20 * i)
            frame = av.VideoFrame.from_ndarray(a, "rgb48le")
            box.mux(stream.encode(frame.reformat(format=pixels, dst_colorspace=colours[0])))
        box.mux(stream.encode())
    return path


@pytest.mark.parametrize("pixels", ["yuv420p10le", "yuv422p10le", "yuv444p10le", "yuva444p16le"])
def test_odd_frames_of_more_than_eight_bits(tmp_path, pixels):
    "They have the colours that the same file has in 8 bits."
    clean = V.fit(V.sample("flower", 1).x, 33, 49)[0]
    a = ((clean + 1) * 127.5).round().byte().permute(1, 2, 0).contiguous().numpy()
    with av.open(str(tmp_path / "a.mkv"), "w") as box:
        stream = box.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = 49, 33, pixels
        box.mux(stream.encode(av.VideoFrame.from_ndarray(a, "rgb24").reformat(format=pixels)))
        box.mux(stream.encode())
    with av.open(str(tmp_path / "a.mkv")) as box:
        shallow = V.to_tensor(next(box.decode(video=0)).to_ndarray(format="rgb24"))
    assert (V.read(tmp_path / "a.mkv").x[0] - shallow).abs().max() < 0.05


def tags(path):
    "Pixel format and colours as the file says them, by the decoder alone."
    with av.open(str(path)) as box:
        frame = next(box.decode(video=0))
    return frame.format.name, (int(frame.color_primaries), int(frame.color_trc))


PQ, HLG, SDR10, PAL = (9, 9, 16), (9, 9, 18), (1, 1, 1), (5, 5, 6)
SKY = (20000, 30000, 45000)


SLOW = pytest.mark.slow
TEN = [(k, PQ) for k in ("mp4", "mov", "webm")] + [("mp4", c) for c in (HLG, SDR10, PAL)]
REST = [("mkv", PQ), *((k, c) for k in ("mkv", "mov", "webm") for c in (HLG, SDR10, PAL))]


@pytest.mark.parametrize("kind, colours", [*TEN, *(pytest.param(*r, marks=SLOW) for r in REST)])
def test_ten_bits_in_ten_bits_out(tmp_path, kind, colours):
    "The same values, the same tags: a player shows the result as it shows the source."
    if colours[0] == 9:
        pytest.importorskip("av", "18", reason="av before 18 knows no BT.2020")
    source = deep_film(tmp_path / "a.mkv", SKY, colours)
    before = V.read(source)
    y = tmp_path / "y.mkv"
    degrade_file(source, y, "inpaint")
    assert V.probe(y).colours[1:] == colours[1:], "the measurement remembers what its values mean"
    out = tmp_path / f"out.{kind}"
    restore_file(y, out, progress=False)
    name, said = tags(out)
    assert name == "yuv420p10le" and said == colours[1:]
    assert V.probe(out).colours.matrix == colours[0] or V.probe(out).colours.matrix in (1, 9)
    assert V.probe(out).bits == 10
    after = V.read(out).x
    assert (after - before.x).abs().mean() < 0.01
    levels = after[:, :, 20:28, 24:40].mean((2, 3))
    assert (levels - before.x[:, :, 20:28, 24:40].mean((2, 3))).abs().max() < 0.01


DISPLAY = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
LIT = ("h264.mkv", "a.webm")
LIGHT = Light((13250, 34500, 7500, 3000, 34000, 16000, 15635, 16450), (10**7, 50), (1000, 400))


@pytest.mark.parametrize(
    "out", ["a.mp4", "prores.mov", *(pytest.param(o, marks=SLOW) for o in LIT)]
)
def test_what_hdr10_says_of_a_film(tmp_path, recwarn, out):
    "The mastering display and the brightest light go into H.265, H.264 and AV1; else it is said."
    pytest.importorskip("av", "18", reason="av before 18 knows no BT.2020")
    said = f"log-level=none:master-display={DISPLAY}:max-cll=1000,400"
    source = deep_film(tmp_path / "s.mkv", SKY, PQ, frames=2, **{"x265-params": said})
    assert V.probe(source).light == LIGHT
    codec = out.split(".")[0] if out[0] in "hp" else None
    how = {"progress": False, "encoding": Encoding(codec)}
    restore_file(source, tmp_path / out, "denoise", sigma_y=0.05, **how)
    lost = [w for w in recwarn if "HDR10" in str(w.message)]
    kept = V.probe(tmp_path / out).light
    assert (kept, len(lost)) == ((None, 1) if out == "prores.mov" else (LIGHT, 0))


def test_colours_that_an_old_av_gets_wrong(tmp_path, monkeypatch):
    import av

    monkeypatch.setattr(av, "__version__", "17.1.0")
    film = deep_film(tmp_path / "a.mkv", SKY, (9, 9, 16))
    with pytest.raises(ValueError, match="av 17.1.0 takes for BT.601: install av 18"):
        V.read(film)
    assert V.read(deep_film(tmp_path / "b.mkv", SKY, (1, 1, 1))).x.shape[1] == 3


def test_eight_bits_stay_eight(tmp_path):
    x = V.sample("tears", 3).x[..., :48, :64]
    V.write(tmp_path / "a.mp4", x)
    restore_file(tmp_path / "a.mp4", tmp_path / "out.mp4", "denoise", sigma_y=0.1, progress=False)
    assert tags(tmp_path / "out.mp4") == ("yuv420p", (1, 1))
    degrade_file(tmp_path / "a.mp4", tmp_path / "y.mkv", "sr")
    restore_file(tmp_path / "y.mkv", tmp_path / "big.mp4", progress=False)
    assert V.probe(tmp_path / "big.mp4").bits == 8, "16 bits of a measurement are for the solver"


def test_a_matrix_that_nobody_knows(tmp_path, capsys):
    deep_film(tmp_path / "a.mkv", SKY, (9, 9, 16), frames=2)
    with av.open(str(tmp_path / "b.mkv"), "w") as box:
        stream = box.add_stream("libx264", 25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p10le"
        stream.codec_context.colorspace = 14
        a = np.zeros((48, 64, 3), np.uint8)
        frame = av.VideoFrame.from_ndarray(a, "rgb24")
        box.mux(stream.encode(frame.reformat(format="yuv420p10le")))
        box.mux(stream.encode())
    assert main(["info", str(tmp_path / "b.mkv")]) == 1
    assert "ICtCp" in capsys.readouterr().err


# ----------------------------------------------------------------------------------- codecs

CASES = [
    ("h264", "mp4", 8, "yuv420p", 0.04),
    ("h264", "mkv", 10, "yuv420p10le", 0.04),
    ("h265", "mp4", 8, "yuv420p", 0.04),
    ("h265", "mov", 10, "yuv420p10le", 0.04),
    ("h265", "mkv", 12, "yuv420p12le", 0.04),
    ("av1", "mp4", 8, "yuv420p", 0.05),
    ("av1", "webm", 10, "yuv420p10le", 0.05),
    ("vp9", "webm", 8, "yuv420p", 0.05),
    ("prores", "mov", 10, "yuv422p10le", 0.04),
    ("ffv1", "mkv", 8, "bgr0", 0.004),
    ("ffv1", "mkv", 10, "gbrp10le", 0.001),
    ("ffv1", "mkv", 16, "gbrp16le", 0.00003),
]


@pytest.mark.parametrize("codec, kind, bits, pixels, worst", CASES)
def test_codecs(tmp_path, codec, kind, bits, pixels, worst):
    x = V.fit(V.sample("flower", 4).x, 65, 97)  # odd on both sides
    out = tmp_path / f"a.{kind}"
    with V.writer(out, 24, encoding=Encoding(codec, bits=bits)) as add:
        add(x)
    assert tags(out)[0] == pixels
    got = V.read(out)
    assert got.x.shape == x.shape and got.fps == 24
    assert (got.x - x).abs().mean() < worst


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="Linux tells the scheduling")
def test_av1_leaves_the_process_its_scheduling(tmp_path):
    "As root SVT-AV1 gives its threads and ours real-time priority: all other programs wait."
    before = os.sched_getscheduler(0)
    with V.writer(tmp_path / "a.mp4", 24, encoding=Encoding("av1")) as add:
        add(torch.zeros(3, 3, 64, 96))
        threads = [int(thread) for thread in os.listdir("/proc/self/task")]
        assert {os.sched_getscheduler(thread) for thread in threads} == {before}
    assert os.sched_getscheduler(0) == before


def test_m4v_holds_what_mp4_holds(tmp_path):
    "FFmpeg takes the ending for an old player's kind of file, without H.265."
    with V.writer(tmp_path / "a.m4v", 24, encoding=Encoding("h265", bits=10)) as add:
        add(torch.zeros(2, 3, 64, 96))
    assert (V.probe(tmp_path / "a.m4v").codec, V.probe(tmp_path / "a.m4v").bits) == ("hevc", 10)


def test_quality(tmp_path):
    x = V.sample("tears", 5).x[..., :96, :128]
    sizes = []
    for crf in (1, 20, 40):
        with V.writer(tmp_path / f"{crf}.mp4", 24, encoding=Encoding(crf=crf)) as add:
            add(x)
        sizes.append((tmp_path / f"{crf}.mp4").stat().st_size)
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > 3 * sizes[2]


@pytest.mark.parametrize(
    "suffix, wish, says",
    [
        (".mp4", {"codec": "prores"}, "choose .mov, .mkv"),
        (".mp4", {"codec": "ffv1"}, "choose .mkv"),
        (".webm", {"codec": "h264"}, "does not go into .webm"),
        (".mp4", {"codec": "h264", "bits": 12}, "it has 8, 10"),
        (".mkv", {"codec": "ffv1", "crf": 3}, "knows no crf"),
        (".mp4", {"crf": 60}, "at most 51"),
        (".mp4", {"bits": 16}, "does not go into .mp4"),
    ],
)
def test_what_does_not_go_together(suffix, wish, says):
    with pytest.raises(ValueError, match=says):
        encoder_for(suffix, Encoding(**wish))


@pytest.mark.parametrize("wish", [{"bits": 9}, {"crf": -1}, {"crf": float("nan")}, {"codec": "x"}])
def test_what_cannot_be(wish):
    with pytest.raises(ValueError, match="choose|must be"):
        Encoding(**wish)


def test_from_the_command_line(tmp_path, capsys):
    x = V.sample("tears", 3).x[..., :48, :64]
    y = V.write(tmp_path / "y.mp4", x)
    ask = ["restore", str(y), "--task", "denoise", "--sigma-y", ".1", "--quiet", "-o"]
    for codec in CODEC_NAMES:
        kind = {"prores": "mov", "vp9": "webm"}.get(codec, "mkv")
        assert main([*ask, str(tmp_path / f"{codec}.{kind}"), "--codec", codec]) == 0
        with av.open(str(tmp_path / f"{codec}.{kind}")) as box:
            name = box.streams.video[0].codec_context.codec.canonical_name
        assert name == {"h265": "hevc"}.get(codec, codec)
    assert main([*ask, str(tmp_path / "a.mp4"), "--codec", "prores"]) == 1
    assert "choose .mov" in capsys.readouterr().err and not (tmp_path / "a.mp4").exists()
    assert main([*ask, str(tmp_path / "f"), "--crf", "3"]) == 1
    assert "belong to .mp4" in capsys.readouterr().err and not (tmp_path / "f").exists()
    assert main([*ask, str(tmp_path / "f"), "--bits", "16"]) == 0
    assert cv2.imread(str(tmp_path / "f" / "00000.png"), -1).dtype == np.uint16


# ------------------------------------------------------------------------------- interlaced


def woven(path):
    "Eight frames of two moments each: a bar that moves by 4 pixels from moment to moment."
    moments = [np.full((64, 96, 3), 40, np.uint8) for _ in range(16)]
    for k, a in enumerate(moments):
        a[16:48, 10 + 4 * k : 26 + 4 * k] = 220
    options = {"flags": "+ildct+ilme", "crf": "1"}
    with av.open(str(path), "w") as box:
        stream = box.add_stream("libx264", 25, options=options)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for even, odd in zip(moments[::2], moments[1::2]):
            a = even.copy()
            a[::2] = odd[::2]  # libx264 marks the lower rows as the first ones
            box.mux(stream.encode(av.VideoFrame.from_ndarray(a, "rgb24")))
        box.mux(stream.encode())
    return [torch.from_numpy(a).permute(2, 0, 1) / 127.5 - 1 for a in moments[::2]]


def test_interlaced(tmp_path, capsys):
    first_fields, path = torch.stack(woven(tmp_path / "a.mkv")), tmp_path / "a.mkv"
    kept = torch.stack(list(V.read_frames(path, interlaced="keep")))
    got = V.read(path).x
    assert got.shape == kept.shape == first_fields.shape
    error, combed = ((x - first_fields).abs().mean() for x in (got, kept))
    assert error < 0.02 and combed > 2 * error
    rows = (got[:, :, 20:44] - got[:, :, 19:43]).abs().mean()
    assert rows < 0.02, "no comb: neighbouring rows show the same moment"
    assert V.read(path, start=3, frames=2).x.equal(got[3:5])
    ask = ["restore", str(path), "-o", str(tmp_path / "o.mp4"), "--task", "sr", "--quiet"]
    assert main([*ask, "--interlaced", "refuse"]) == 1
    assert "deinterlace it first" in capsys.readouterr().err
    assert main(["info", str(path)]) == 0 and "bwdif" in capsys.readouterr().out
    with pytest.raises(ValueError, match="choose one of bwdif"):
        next(V.read_frames(path, interlaced="blend"))


# ------------------------------------------------------------------------------- transparent


def see_through(path, codec, pixels, **options):
    with av.open(str(path), "w") as box:
        stream = box.add_stream(codec, 25, options=options)
        stream.height, stream.width, stream.pix_fmt = 48, 64, pixels
        a = np.full((48, 64, 4), (250, 200, 250, 255), np.uint8)
        a[:, 32:, 3] = 0
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(a, "rgba")
            box.mux(stream.encode(frame.reformat(format=pixels)))
        box.mux(stream.encode())
    return path


@pytest.mark.parametrize("kind", ["webm", "mov", "png", "webp"])
def test_transparent_places_are_black(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    if kind == "webm":
        see_through(path, "libvpx-vp9", "yuva420p", crf="4", b="0", **{"auto-alt-ref": "0"})
        with av.open(str(path)) as box:
            context = CodecContext.create("libvpx-vp9", "r")
            packet = next(box.demux(video=0))
            assert context.decode(packet)[0].format.name == "yuva420p", "the file has opacity"
    elif kind == "mov":
        see_through(path, "prores_ks", "yuva444p10le", profile="4")
    else:
        a = np.full((48, 64, 4), (250, 200, 250, 255), np.uint8)
        a[:, 32:, 3] = 0
        Image.fromarray(a).save(path, lossless=True)
    x = V.read(path).x
    assert x[..., 36:].max() < -0.97 and x[..., :28].min() > 0.5
    assert any("transparent" in remark for remark in V.probe(path).remarks)


@pytest.mark.parametrize("kind", ["gif", "webp", "png"])
@pytest.mark.parametrize("moves", [False, True])
@pytest.mark.parametrize("layer", ["none", "opaque", "holes"])
def test_only_what_hides_something_is_called_transparent(tmp_path, kind, moves, layer):
    "Every gif is decoded with a layer of opacity, and many tools save one that is opaque."
    mode, opacity = ("RGB", ()) if layer == "none" else ("RGBA", (255,))
    pages = [Image.new(mode, (48, 32), (60 * i, 250, 0, *opacity)) for i in range(3)]
    if layer == "holes":
        for page in pages:
            page.paste((0, 0, 0, 0), (8, 8, 16, 16))
    path, lossless = tmp_path / f"a.{kind}", {"lossless": True} if kind == "webp" else {}
    more = dict(save_all=True, append_images=pages[1:], duration=100, disposal=2) if moves else {}
    pages[0].save(path, **(more | lossless))
    said = [remark for remark in V.probe(path).remarks if "transparent" in remark]
    assert bool(said) == (layer == "holes")


# --------------------------------------------------------------------------------- pictures


def test_a_rate_for_pictures(tmp_path, capsys):
    V.write(tmp_path / "f", V.sample("tears", 4).x[..., :48, :64])
    ask = ["restore", "--task", "sr", "--quiet", "-o", str(tmp_path / "o.mp4")]
    assert main([*ask, str(tmp_path / "f"), "--fps", "12.5"]) == 0
    assert V.probe(tmp_path / "o.mp4").fps == 12.5
    film = V.write(tmp_path / "a.mp4", V.sample("tears", 4).x[..., :48, :64])
    ask[-1] = str(tmp_path / "p.mp4")
    assert main([*ask, str(film), "--fps", "12"]) == 1
    assert "belongs to a folder of frames" in capsys.readouterr().err
    with pytest.raises(ValueError, match="too-fast.* make a folder of its frames"):
        Clip(Path("too-fast.mkv")).rate(SimpleNamespace(fps=30000.0))
    assert main([*ask, str(tmp_path / "f"), "--fps", "0"]) == 1
    assert "between 0 and 1000" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["webp", "png", "gif"])
def test_how_fast_a_moving_picture_plays(tmp_path, kind):
    "Ten frames per second, whoever holds them; Pillow tells the time of a webp when it is loaded."
    pages = [Image.new("RGB", (16, 8), (40 * i, 0, 0)) for i in range(6)]
    path = tmp_path / f"a.{kind}"
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=100)
    assert V.probe(path)[:4] == (6, 8, 16, 10.0)


def test_frames_that_would_be_left_out(tmp_path):
    for name in ("0.png", "1.bmp"):
        Image.new("RGB", (8, 6)).save(tmp_path / name)
    with pytest.raises(ValueError, match="1.bmp lies beside"):
        V.read(tmp_path)


def test_missing_numbers_are_said(tmp_path):
    for i in (0, 1, 2, 3, 7, 8, 9, 10):
        Image.new("RGB", (8, 6)).save(tmp_path / f"f{i}.png")
    assert V.probe(tmp_path).remarks == ("frames are missing between f3.png and f7.png",)


def test_absurd_sizes_are_refused_before_memory_is_taken(tmp_path):
    "Sixty thousand squared: eleven gigabytes for one frame."
    Image.new("RGB", (8, 6)).save(tmp_path / "bomb.png")
    data = bytearray((tmp_path / "bomb.png").read_bytes())
    data[16:24] = (60000).to_bytes(4, "big") * 2
    (tmp_path / "bomb.png").write_bytes(data)
    with pytest.raises(ValueError, match="declares frames of 60000x60000"):
        V.read(tmp_path / "bomb.png")
    with av.open(str(tmp_path / "bomb.mkv"), "w") as box:
        stream = box.add_stream("mpeg4", 25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")
        box.mux(stream.encode(frame))
        box.mux(stream.encode())
    with pytest.raises(ValueError, match="more than 134,217,728 pixels"):
        check_pixels(16384, 16384, "a.mkv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "PIXELS", 48 * 64 - 1)
        with pytest.raises(ValueError, match="declares frames of 64x48"):
            V.read(tmp_path / "bomb.mkv")


def test_colours_by_default():
    assert Colours() == (1, 1, 1)


@pytest.mark.parametrize("size", [(200, 48), (32, 48), (30, 30), (48, 40)])
def test_films_too_small_for_h265(tmp_path, size):
    "x265 writes past its memory there, so the same bits go into H.264."
    x = torch.rand(5, 3, *size) * 2 - 1
    too_small = pytest.warns(UserWarning, match="too small for H.265")
    for _ in range(3):
        with too_small, V.writer(tmp_path / "a.mp4", 24, True, encoding=Encoding(bits=10)) as add:
            add(x)
    with av.open(str(tmp_path / "a.mp4")) as box:
        assert box.streams.video[0].codec_context.name == "h264"
    assert V.probe(tmp_path / "a.mp4").bits == 10 and V.read(tmp_path / "a.mp4").x.shape == x.shape


@pytest.mark.parametrize("name, codec", [("x.mp4", None), ("x.mkv", None), ("y.mkv", "ffv1")])
def test_the_shape_of_pixels_is_kept_or_its_loss_is_named(tmp_path, name, codec):
    "Pixels of 4:3 stay so; Matroska cannot say it for every codec, and that is said."
    x, source, out = torch.zeros(2, 3, 16, 24), tmp_path / "wide.mp4", tmp_path / name
    with av.open(str(source), "w") as box:
        stream = box.add_stream("libx264", 24)
        stream.height, stream.width, stream.pix_fmt = 16, 24, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for _ in x:
            box.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 24, 3), "u1"), "rgb24")))
        box.mux(stream.encode())
    how = {"tracks": Tracks(source), "encoding": Encoding(codec)}
    with V.writer(out, 24, **how) as add:
        add(x)
    with av.open(str(out)) as box:
        kept = box.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
    lost = lost_in(source, out, film_encoder(out, how["encoding"]).name)
    assert kept == (codec is None) and kept != any("shape of pixels (4/3)" in s for s in lost)
    for other in ("x.webm", "x.gif", "frames"):
        assert any("shape of pixels (4/3)" in words for words in lost_in(source, other))


TURNS = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}


@pytest.mark.parametrize("turn", TURNS)
def test_the_shape_of_pixels_is_turned_with_the_film(tmp_path, turn):
    "Pixels of 4:3 are 3:4 in a film that stands on its side, and 4:3 in one upside down."
    source, out = tmp_path / "plain.mp4", tmp_path / "o.mp4"
    with av.open(str(source), "w") as box:
        stream = box.add_stream("libx264", 24)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for _ in range(2):
            gray = np.full((32, 48, 3), 90, "u1")
            box.mux(stream.encode(av.VideoFrame.from_ndarray(gray, "rgb24")))
        box.mux(stream.encode())
    a, b, c, d = (65536 * n for n in TURNS[turn])
    film = bytearray(source.read_bytes())
    at = film.index(
        struct.pack(">9I", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30), film.index(b"tkhd")
    )
    film[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    source.write_bytes(film)
    assert V.probe(source)[1:3] == ((32, 48) if turn == 180 else (48, 32))
    restore_file(source, out, "denoise", sigma_y=0.05, progress=False)
    right = Fraction(4, 3) if turn == 180 else Fraction(3, 4)
    with av.open(str(out)) as box:
        assert box.streams.video[0].sample_aspect_ratio == right
    assert beside(source) == beside(out) == [f"pixels of {right.numerator}:{right.denominator}"]
    assert f"the shape of pixels ({right})" in lost_in(source, "x.webm")[0]


def test_frames_that_a_cut_avi_lacks_are_said(tmp_path, capsys):
    "Its header holds how many there were. One that is whole is not suspected."
    path, part = tmp_path / "a.avi", tmp_path / "cut.avi"
    x = V.sample("flower", 20).x
    with av.open(str(path), "w") as box:
        stream = box.add_stream("mjpeg", 25)
        stream.height, stream.width, stream.pix_fmt = 192, 320, "yuvj420p"
        for frame in x:
            box.mux(stream.encode(av.VideoFrame.from_ndarray(V.to_array(frame), "rgb24")))
        box.mux(stream.encode())
    assert V.probe(path).frames == 20 and V.probe(path).remarks == ()
    data = path.read_bytes()
    part.write_bytes(data[: len(data) * 6 // 10])
    found = V.probe(part)
    assert 0 < found.frames < 20
    assert found.remarks[0].endswith(f": {20 - found.frames} frames cannot be shown")
    assert main(["info", str(part)]) == 0
    assert f"{20 - found.frames} frames cannot be shown" in capsys.readouterr().out
    path.write_bytes(data + data[:4])  # bytes behind its end are no loss
    assert V.probe(path).remarks == ()


@pytest.mark.parametrize("kind", ["gif", "webp", "png"])
@pytest.mark.parametrize("out", ["o.mp4", "o.mkv", "o.gif"])
def test_uneven_delays_of_a_moving_picture_are_kept(tmp_path, kind, out):
    "A film and a gif have a time for each frame; a folder has none, and that is said."
    waits = [40, 40, 40, 1000, 40, 40, 500, 700]
    pages = [Image.new("RGB", (48, 32), (30 * i, 0, 0)) for i in range(8)]
    source = tmp_path / f"a.{kind}"
    pages[0].save(source, save_all=True, append_images=pages[1:], duration=waits)
    assert beside(source) == ["uneven times of frames"]
    restore_file(source, tmp_path / out, "denoise", sigma_y=0.05, progress=False)
    times = [float(t) for t in frame_times(tmp_path / out)]
    assert np.allclose(times, np.cumsum([0, *waits[:-1]]) / 1000, atol=0.0006)
    assert float(Tracks(tmp_path / out).wait) == pytest.approx(0.7, abs=0.0006)
    part = Clip(source, start=2, frames=4)
    restore_file(part, tmp_path / f"part-{out}", "denoise", sigma_y=0.05, progress=False)
    found = Tracks(tmp_path / f"part-{out}")
    assert np.allclose([float(t) for t in found.times], [0, 0.04, 1.04, 1.08], atol=0.0006)
    assert float(found.wait) == pytest.approx(0.04, abs=0.0006)
    assert lost_in(source, out) == []
    assert "uneven times" in lost_in(source, "a folder")[0]
    if kind != "gif" and out == "o.mp4":  # pictures may be given another rate
        clip = Clip(source, fps=10.0)
        restore_file(clip, tmp_path / "p.mp4", "denoise", sigma_y=0.05, progress=False)
        assert np.allclose([float(t) for t in frame_times(tmp_path / "p.mp4")], np.arange(8) / 10)


def test_a_gif_rounds_its_even_times(tmp_path):
    "Thirty frames per second are delays of 30, 30 and 40 ms there: nothing is uneven."
    pages = [Image.new("RGB", (48, 32), (8 * i, 0, 0)) for i in range(9)]
    waits = [30, 30, 40] * 3
    pages[0].save(tmp_path / "a.gif", save_all=True, append_images=pages[1:], duration=waits)
    assert beside(tmp_path / "a.gif") == []


def test_frames_that_change_their_size_are_said(tmp_path):
    "A recording in transport streams may do so; a restoration refuses it, and `info` says why."
    for name, size in (("a.ts", (48, 64)), ("b.ts", (64, 96))):
        with av.open(str(tmp_path / name), "w") as box:
            stream = box.add_stream("libx264", 25)
            (stream.height, stream.width), stream.pix_fmt = size, "yuv420p"
            for i in range(6):
                gray = np.full((*size, 3), 20 * i, "u1")
                box.mux(stream.encode(av.VideoFrame.from_ndarray(gray, "rgb24")))
            box.mux(stream.encode())
    both = tmp_path / "c.ts"
    both.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    assert V.probe(tmp_path / "a.ts").remarks == V.probe(tmp_path / "b.ts").remarks == ()
    assert "its frames change from 64x48 to 96x64" in V.probe(both).remarks[-1]
    with pytest.raises(ValueError, match="all frames must have one size"):
        V.read(both)
