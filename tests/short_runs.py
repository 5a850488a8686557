"Short restorations for tests of workers, and windows in whose middle a worker is held."

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from visionxl import video
from visionxl.app.files.degrade_file import degrade_file
from visionxl.app.files.restore_file import restore_file
from visionxl.app.windows import restore_window
from visionxl.operators.tasks import task
from visionxl.scale.pool import predicted
from visionxl.solver import solve

LONG = 12_000  # looks, 0.05 s apart: a test that waits so long is stuck
FEW = {"route.steps": 8}  # two steps of the loop
SHORT = {  # of a film, written without loss
    **{"chunk": 5, "overlap": 2, "progress": False, "changes": FEW},
    **{"encoding": video.Encoding("ffv1"), "prior": "tiny"},
}


def restored(prior, clip, preset="paper", name="deblur", **options):
    "The result of a short run, and how many states it had."
    A = task(name, clip.shape)
    for state in solve(A(clip), A, prior, preset, FEW, **options):
        pass
    return state.x


def restored_alone(folder, name, frames, size):
    "A degraded film of several windows, and the bytes of its restoration by this process alone."
    clean, y, x = (folder / f"{part}.mkv" for part in ("clean", "y", "alone"))
    video.write(clean, video.fit(video.sample("flower", frames).x, *size), lossless=True)
    degrade_file(clean, y, name)
    restore_file(y, x, **SHORT)
    return y, x.read_bytes()


@dataclass
class Held:
    """Restores a window, and is held in the middle of some until a file named `go` is there.

    It is put in the place of `restore_window`. Each visit to the middle of a window takes the next
    number and leaves a note of who was where. So a test knows whom it hits, and when: nothing
    depends on how quick a machine is.
    """

    folder: Path  # of the notes
    windows: tuple[int, ...] = ()  # first frames of those that are held; (): all
    after: int = 0  # visits before one is held
    node: str = ""  # of a cluster, where they are held; "": everywhere

    def __call__(self, prior, w, **hooks):
        visits = []

        def first_state(state):
            if not visits:
                visits.append(self.visit(w.frames[0]))

        return restore_window(prior, w, **{"on_state": first_state} | hooks)

    def visit(self, first=0):
        "Note that this process is at a window (that begins with frame `first`), and be held there."
        note, number = self.note("new", first), 0
        while not taken(note, self.folder / str(number)):
            number += 1
        if number < self.after or (self.windows and first not in self.windows):
            return
        if self.on_node():
            self.note("held", first).replace(self.folder / f"held {first}")
            until(lambda: (self.folder / "go").exists())

    def note(self, kind, first):
        "A file that says who is where."
        path = self.folder / f"{kind} {first} {os.getpid()}"
        path.write_text(json.dumps((os.getpid(), first)))
        return path

    def on_node(self):
        "Whether this process is on the node."
        if not self.node:
            return True
        import ray

        return ray.get_runtime_context().get_node_id() == self.node

    def seen(self):
        "The visits until now: [(process, first frame of the window)]."
        notes = [p for p in self.folder.iterdir() if p.name.isdecimal()]
        return [tuple(json.loads(p.read_text())) for p in sorted(notes, key=lambda p: int(p.name))]

    def wait(self, first="*"):
        "The process that is held in the middle of a window, as soon as there is one."
        found = until(lambda: [*self.folder.glob(f"held {first}")])
        return json.loads(found[0].read_text())[0]

    def let_go(self):
        "Nobody is held any more."
        (self.folder / "go").touch()


class HeldCall(Held):
    "The same for a call of the network in place of a window."

    def __call__(self, prior, z, t):
        self.visit()
        return predicted(prior, z, t)


def taken(note, name):
    "Whether a note got this name, which only one can get."
    try:
        os.link(note, name)
    except FileExistsError:
        return False
    note.unlink()
    return True


def until(true, running=None):
    "What `true` returns as soon as that is true; an error where a process ends before that."
    for _ in range(LONG):
        ended = running is not None and running.poll() is not None
        if found := true():
            return found
        assert not ended, f"the process ended before that: {running.args}"
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def lives(process):
    "Whether a process runs, or is stopped; one that waits for its parent to look is dead."
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"
