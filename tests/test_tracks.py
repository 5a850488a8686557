"visionxl.tracks: sound, subtitles, chapters, tags, the shape of pixels and uneven times survive."

import warnings
from fractions import Fraction

import av  # noqa: TID253
import numpy as np
import pytest
from app.exact import Gaussian
from PIL import Image

from visionxl import video as V
from visionxl.app.files.degrade_file import degrade_file
from visionxl.app.files.restore_file import restore_file
from visionxl.media import tracks as K
from visionxl.media.contents import lost_in
from visionxl.media.films import kind_of
from visionxl.prior.latent import Prior


def full_film(path, ms=None, sound="aac", pixel=Fraction(1), subtitles=True, gop=250):
    "Fifty frames at 25 per second, or frames at given milliseconds, with all that a film may hold."
    with av.open(str(path), "w") as box:
        film = box.add_stream("libvpx-vp9" if path.suffix == ".webm" else "libx264", 25)
        film.width, film.height, film.pix_fmt = 64, 48, "yuv420p"
        film.codec_context.sample_aspect_ratio = pixel
        film.codec_context.gop_size = gop
        if ms:
            film.codec_context.time_base = Fraction(1, 1000)
        tone = box.add_stream(sound, rate=48000)
        tone.metadata["language"] = "deu"
        box.metadata["title"] = "A film"
        second = Fraction(1, 1000)
        marks = ((0, 500, "One"), (500, 2000, "Two"))
        chapters = [
            {"id": i, "start": a, "end": b, "time_base": second, "metadata": {"title": t}}
            for i, (a, b, t) in enumerate(marks)
        ]
        box.set_chapters(chapters)
        if subtitles:
            add_subtitles(box, path.parent / "s.srt")
        for i in range(len(ms) if ms else 50):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 5 * i, np.uint8), "rgb24")
            if ms:
                frame.time_base, frame.pts = Fraction(1, 1000), ms[i]
            box.mux(film.encode(frame))
        frames_of_sound = tone.codec_context.frame_size or 960
        for n in range(0, 96000, frames_of_sound):
            wave = np.random.default_rng(n).normal(size=(1, frames_of_sound)).astype(np.float32)
            a = av.AudioFrame.from_ndarray(0.1 * wave, format="fltp", layout="mono")
            a.sample_rate, a.pts = 48000, n
            box.mux(tone.encode(a))
        box.mux(tone.encode(None))
        box.mux(film.encode(None))
    return path


def add_subtitles(box, name):
    name.write_text(
        "1\n00:00:00,200 --> 00:00:01,000\nHello\n\n2\n00:00:01,200 --> 00:00:01,800\nWorld\n"
    )
    with av.open(str(name)) as text:
        words = box.add_stream_from_template(text.streams[0])
        for packet in text.demux():
            if packet.size:
                packet.stream = words
                box.mux(packet)


def packets(path, kind):
    with av.open(str(path)) as box:
        stream = getattr(box.streams, kind)[0]
        return [(float(p.pts * p.time_base), bytes(p)) for p in box.demux(stream) if p.size]


def copy(source, out, start=0, frames=None):
    "The same pictures again, with everything that lies beside them."
    x, fps = V.read(source, frames, start)
    with V.writer(out, fps, tracks=K.Tracks(source, start, len(x))) as add:
        add(x)
    return out


@pytest.mark.parametrize(
    "kind, sound", [("mkv", "aac"), ("mp4", "aac"), ("mov", "aac"), ("webm", "libopus")]
)
def test_everything_survives(tmp_path, kind, sound):
    srt = kind == "mkv"
    source = full_film(tmp_path / f"a.{kind}", sound=sound, subtitles=srt, pixel=Fraction(4, 3))
    out = copy(source, tmp_path / f"b.{kind}")
    for track in ["audio", "subtitles"] if srt else ["audio"]:
        before, after = packets(source, track), packets(out, track)
        assert [p[1] for p in before] == [p[1] for p in after]
        shifts = [b[0] - a[0] for a, b in zip(before, after)]
        assert max(map(abs, shifts)) < 0.03
    with av.open(str(out)) as box:
        assert box.metadata["title"] == "A film"
        assert [c["metadata"]["title"] for c in box.chapters()] == ["One", "Two"]
        with av.open(str(source)) as first:
            shape = first.streams.video[0].sample_aspect_ratio
            language = first.streams.audio[0].metadata.get("language")
        assert box.streams.video[0].sample_aspect_ratio == shape
        assert kind == "webm" or shape == Fraction(4, 3)  # VP9 of this FFmpeg does not keep it
        assert box.streams.audio[0].metadata.get("language") == language
    assert V.read(out).x.shape == (50, 3, 48, 64)


def test_a_part_keeps_its_own_sound(tmp_path):
    source = full_film(tmp_path / "a.mkv")
    out = copy(source, tmp_path / "b.mkv", start=25, frames=12)
    part, whole = packets(out, "audio"), packets(source, "audio")
    first = next(i for i, p in enumerate(whole) if p[1] == part[0][1])
    assert whole[first][0] - part[0][0] == pytest.approx(1.0, abs=0.025)
    assert part[-1][0] < 12 / 25 + 0.03
    assert [t for _, t in packets(out, "subtitles")] == [b"World"]
    with av.open(str(out)) as box:
        assert [c["metadata"]["title"] for c in box.chapters()] == ["Two"]


UNEVEN = [0, 40, 80, 400, 440, 480, 1000, 1040, 1500]


@pytest.mark.parametrize("kind", ["mp4", "mkv", "webm"])
def test_uneven_times_are_kept(tmp_path, kind):
    "A phone's film: played at the mean rate it would hurry and dawdle."
    source = full_film(tmp_path / "a.mkv", ms=UNEVEN)
    out = copy(source, tmp_path / f"b.{kind}")
    times = [1000 * float(t) for t in K.frame_times(out)]
    assert [t - times[0] for t in times] == pytest.approx(UNEVEN, abs=2)


def test_uneven_times_where_frames_are_left_out(tmp_path, monkeypatch):
    "Every second frame keeps its own time, and those between come back in the middle."
    monkeypatch.setattr(Prior, "load", classmethod(lambda cls, name, vae=None: Gaussian()))
    source, y, out = (tmp_path / f"{name}.mkv" for name in "ayx")
    full_film(source, ms=UNEVEN, subtitles=False)
    degrade_file(source, y, "every:step=2")
    few = {"preset": "paper", "changes": {"route.steps": 2}, "progress": False}
    restore_file(y, out, "every:step=2", **few)
    between = [(a + b) / 2 for a, b in zip(UNEVEN[::2], UNEVEN[2::2])]
    for path, want in ((y, UNEVEN[::2]), (out, sorted([*UNEVEN[::2], *between]))):
        times = [1000 * float(t) for t in K.frame_times(path)]
        assert [t - times[0] for t in times] == pytest.approx(want, abs=2)


def test_the_last_frame_is_shown_as_long_where_frames_are_left_out(tmp_path):
    "Half as many frames end when all do, and so do twice as many."
    waits = [40, 40, 200, 40, 40, 300]
    pages = [Image.new("RGB", (48, 32), (40 * i, 0, 0)) for i in range(6)]
    pages[0].save(tmp_path / "a.png", save_all=True, append_images=pages[1:], duration=waits)
    tracks = K.Tracks(tmp_path / "a.png")
    for step in (1, 2, 0.5):
        paced = tracks.paced(step)
        assert float(paced.times[-1] + paced.wait) == pytest.approx(sum(waits) / 1000)
    assert K.Tracks(tmp_path / "a.png", 1, 2).wait == Fraction(1, 5)
    assert K.Tracks(tmp_path).wait is None


def test_uneven_times_of_a_gif(tmp_path):
    source = full_film(tmp_path / "a.mkv", ms=UNEVEN)
    times = [1000 * float(t) for t in K.frame_times(copy(source, tmp_path / "b.gif"))]
    assert times == pytest.approx(UNEVEN, abs=12)


def test_what_a_container_cannot_hold_is_named(tmp_path):
    source = full_film(tmp_path / "a.mkv")
    assert lost_in(source, "b.mkv") == []
    assert [s.split(" of ")[0] for s in lost_in(source, "b.mp4")] == ["the subtitle (srt)"]
    lost = [s.split(" of ")[0] for s in lost_in(source, "b.webm")]
    assert lost == ["the audio (aac)", "the subtitle (srt)"]
    lost = [s.split(" of ")[0] for s in lost_in(source, "frames")]
    assert lost == ["the audio (aac)", "the subtitle (srt)", "the 2 chapters", "the tags title"]
    assert V.read(copy(source, tmp_path / "b.webm")).x.shape == (50, 3, 48, 64)


PHONE = {"title": "A walk", "com.apple.quicktime.model": "a phone", "location": "+48.1+011.5/"}


@pytest.mark.parametrize("kind", ["mp4", "mov", "mkv", "webm"])
def test_a_font_a_cover_and_a_phones_tags(tmp_path, kind):
    "An attachment, a picture, and tags that mp4 has no names for: kept, or named before the work."
    source = tmp_path / "a.mkv"
    with av.open(str(source), "w") as box:
        film = box.add_stream("libx264", 25)
        film.width, film.height, film.pix_fmt = 64, 48, "yuv420p"
        box.metadata.update(PHONE)
        picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")
        cover = av.CodecContext.create("png", "w")
        cover.width, cover.height, cover.pix_fmt = 64, 48, "rgb24"
        cover.time_base = Fraction(1, 25)
        data = b"".join(bytes(p) for p in [*cover.encode(picture), *cover.encode(None)])
        box.add_attachment("cover.png", "image/png", data)
        box.add_attachment("letters.ttf", "font/ttf", b"letters")
        for _ in range(3):
            box.mux(film.encode(picture))
        box.mux(film.encode())
    out = copy(source, tmp_path / f"b.{kind}")
    lost = [s.split(" of ")[0] for s in lost_in(source, out)]
    with av.open(str(out)) as box:
        tags = {k.lower() for k in box.metadata} & {*PHONE}
        beside = [kind_of(s) for s in box.streams][1:]
        covers = [bytes(p) for s in box.streams.video[1:] for p in box.demux(s) if p.size]
    font, picture = "the attachment (unknown)", "the cover picture (png)"
    want = {
        "mp4": (["cover picture"], [font, "the tags COM.APPLE.QUICKTIME.MODEL"]),
        "mov": ([], [picture, font]),
        "mkv": (["cover picture", "attachment"], []),
        "webm": ([], [picture, font]),
    }
    assert (beside, lost) == want[kind] and all(c == data for c in covers)
    assert tags == {*PHONE} - ({"com.apple.quicktime.model"} if kind == "mp4" else set())
    assert V.read(out).x.shape == (3, 3, 48, 64)


def test_two_packets_at_one_time(tmp_path):
    "A recorder that stops and goes on writes times twice: the sound goes on, the run does not end."
    source = full_film(tmp_path / "a.mkv", subtitles=False)
    tracks = K.Tracks(source)
    with V.writer(tmp_path / "b.mkv", 25, tracks=tracks) as add:
        add(V.read(source, 2).x)
        tracks.waiting = list(tracks.waiting)
        for packet in tracks.waiting[5:10]:
            packet.pts = packet.dts = tracks.waiting[4].pts
        tracks.waiting = iter(tracks.waiting)
        add(V.read(source, None, 2).x)
    times = [t for t, _ in packets(tmp_path / "b.mkv", "audio")]
    assert len(times) == len(packets(source, "audio")) and times == sorted(times)


@pytest.mark.parametrize("harm", ["begin", "gap"])
def test_a_recording_of_television(tmp_path, harm):
    "It begins in the middle, or lacks a piece: what cannot be shown is named, the sound stays."
    source = full_film(tmp_path / "a.ts", subtitles=False, gop=10)
    data = bytearray(source.read_bytes())
    place = len(data) // 188 // 3 * 188
    if harm == "begin":
        del data[:place]
    else:
        data[place : place + 30 * 188] = bytes(30 * 188)
    source.write_bytes(data)
    info, x = V.probe(source), V.read(source).x
    assert info.frames == len(x) < 50 and "frames cannot be shown" in info.remarks[0]
    first = float(K.frame_times(source)[0])
    with V.writer(tmp_path / "b.mp4", 25, tracks=K.Tracks(source, 0, len(x))) as add:
        add(x)
    heard = {sound[-30:]: t for t, sound in packets(source, "audio")}  # mp4 has no head of its own
    for t, sound in packets(tmp_path / "b.mp4", "audio"):
        assert t == pytest.approx(heard[sound[-30:]] - first, abs=0.03)
    assert [float(t) for t in K.frame_times(tmp_path / "b.mp4")] == pytest.approx(
        [float(t) - first for t in K.frame_times(source)], abs=0.02
    )


def test_nothing_beside_frames(tmp_path):
    x = V.sample("flower", 3).x
    for name in ("frames", "a.gif"):
        V.write(tmp_path / name, x)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert lost_in(tmp_path / name, "b.mp4") == []
            copy(tmp_path / name, tmp_path / f"{name}.mp4")


def test_a_source_that_is_late(tmp_path):
    "A first timestamp that is not zero: sound and pictures keep their distance."
    with av.open(str(tmp_path / "a.mkv"), "w") as box:
        film = box.add_stream("libx264", 25, options={"bf": "0"})
        film.width, film.height, film.pix_fmt = 64, 48, "yuv420p"
        film.codec_context.time_base = Fraction(1, 1000)
        tone = box.add_stream("pcm_s16le", rate=48000)
        for i in range(10):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")
            frame.time_base, frame.pts = Fraction(1, 1000), 500 + 40 * i
            box.mux(film.encode(frame))
        for n in range(0, 48000, 4800):
            wave = np.full((1, 4800), n // 48, np.int16)
            a = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
            a.sample_rate, a.pts = 48000, n
            box.mux(tone.encode(a))
        box.mux(tone.encode(None))
        box.mux(film.encode(None))
    out = copy(tmp_path / "a.mkv", tmp_path / "b.mkv")

    def distance(path):
        picture, sound = float(K.frame_times(path)[0]), packets(path, "audio")
        loud = next(t for t, b in sound if np.frombuffer(b, np.int16)[0] >= 600)
        return loud - picture

    assert distance(out) == pytest.approx(distance(tmp_path / "a.mkv"), abs=0.005)
