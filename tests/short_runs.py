"Short restorations for tests of workers, and who of them is at work."

import time

from visionxl import video
from visionxl.app.files.degrade_file import degrade_file
from visionxl.app.files.restore_file import restore_file
from visionxl.operators.tasks import task
from visionxl.solver import solve

FEW = {"route.steps": 8}  # two steps of the loop
SHORT = {  # of a film, written without loss
    **{"chunk": 5, "overlap": 2, "progress": False, "changes": FEW},
    "encoding": video.Encoding("ffv1"),
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


def at_work(crew, but=()):
    "A process of the crew that has worked on its piece for a while."
    while True:
        time.sleep(0.2)
        with crew.changed:
            free = [worker for worker, _ in crew.free]
            busy = [w for w in crew.staff if w not in free and w.where and w.where not in but]
        time.sleep(0.2)
        for worker in busy:
            with crew.changed:
                if worker not in [w for w, _ in crew.free]:
                    return worker.where
