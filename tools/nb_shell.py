"""Run the cells of one notebook in this process and write their outputs as JSON.

    python tools/nb_shell.py NOTEBOOK OUTPUTS    (what tools/run_nbs.py calls for each notebook)

There is no Jupyter kernel, so no socket on whose messages a busy machine could wait for ever.
Outputs have the form and the order that a kernel gives them. The name of each cell is printed
before it runs, so that the caller can tell a long cell from a dead process.
"""

import faulthandler
import io
import json
import os
import sys
import traceback
from binascii import b2a_base64
from pathlib import Path

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets import Type
from traitlets.config import Config


class Recorder:
    "The outputs of the cell that runs, in the order in which they are made."

    def __init__(self) -> None:
        self.outputs: list[dict] = []
        self.hidden = 0  # widgets that catch what is shown: a reader sees it when they move one

    def stream(self, name: str, text: str) -> None:
        if self.hidden or not text:
            return
        last = self.outputs[-1] if self.outputs else {}
        if last.get("output_type") == "stream" and last["name"] == name:
            last["text"] += text
        else:
            self.outputs.append({"output_type": "stream", "name": name, "text": text})

    def show(self, kind: str, data: dict, metadata: dict, **more: object) -> None:
        if self.hidden:
            return
        data = {mime: as_text(value) for mime, value in data.items()}
        self.outputs.append({"output_type": kind, "data": data, "metadata": metadata, **more})


def as_text(value: object) -> object:
    "Bytes of a picture in the letters of base64, as a kernel sends them; the rest unchanged."
    return b2a_base64(value).decode("ascii") if isinstance(value, bytes) else value


class Stream(io.TextIOBase):
    "`sys.stdout` or `sys.stderr` of the notebook."

    encoding = "utf-8"

    def __init__(self, recorder: Recorder, name: str) -> None:
        self.recorder, self.name = recorder, name

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.recorder.stream(self.name, text)
        return len(text)


class Publisher(DisplayPublisher):
    "Where `display` goes."

    def publish(
        self,
        data: dict,
        metadata: dict | None = None,
        *,
        transient: dict | None = None,
        update: bool = False,
        **kwargs: object,
    ) -> None:
        recorder, name = self.shell.recorder, (transient or {}).get("display_id")
        if not update:
            recorder.show("display_data", data, metadata or {})
            if name and not recorder.hidden:
                recorder.outputs[-1]["transient"] = name
            return
        for output in recorder.outputs:
            if name and output.get("transient") == name:
                output["data"] = {mime: as_text(value) for mime, value in data.items()}

    def clear_output(self, wait: bool = False) -> None:
        if not self.shell.recorder.hidden:
            self.shell.recorder.outputs.clear()


class Result(DisplayHook):
    "Where the value of a cell's last line goes."

    def write_output_prompt(self) -> None:
        "Nothing: the prompt belongs to terminals."

    def write_format_data(self, format_dict: dict, md_dict: dict | None = None) -> None:
        self.shell.recorder.show(
            "execute_result", format_dict, md_dict or {}, execution_count=None
        )

    def finish_displayhook(self) -> None:
        "Nothing is left to do: a terminal would get an empty line here."
        self._is_active = False


class Shell(InteractiveShell):
    "IPython that records what a notebook shows."

    displayhook_class = Type(Result)
    display_pub_class = Type(Publisher)

    def __init__(self, **options: object) -> None:
        self.recorder = Recorder()
        super().__init__(**options)
        self.display_formatter.active = True

    def enable_gui(self, gui: str | None = None) -> None:
        "Nothing: there is no window."

    def _showtraceback(self, etype: type, evalue: BaseException, stb: list) -> None:
        "Nothing is printed: the caller reports the error."


def hide_what_widgets_catch(recorder: Recorder) -> None:
    "Leave out what is shown inside a widget's own output, as Jupyter's files do."
    try:
        from ipywidgets import Output
    except ImportError:
        return
    enter, leave = Output.__enter__, Output.__exit__

    def begin(self: Output) -> object:
        found = enter(self)
        recorder.hidden += 1
        return found

    def end(self: Output, *error: object) -> bool:
        try:
            leave(self, *error)
        finally:
            recorder.hidden -= 1
        return False  # an error inside a widget is an error of the notebook

    Output.__enter__, Output.__exit__ = begin, end


def unfilled(source: str, names: dict) -> str | None:
    """What is wrong with a stub of an exercise, or None: its assert must fail as it stands.

    It runs on a copy of the notebook's names, so that the cells after it see nothing of it.
    """
    if "..." not in source or "assert" not in source:
        return None
    try:
        exec(compile(source, "stub", "exec"), dict(names))
    except Exception:
        return None
    return "the assert of this stub holds before anything is filled in"


def run_cells(cells: list[dict]) -> dict:
    """Run the code cells in turn; stops at the first error.

    Gives `outputs`, a list of outputs by the number of the cell, and `error`, None or what a
    reader needs of it.
    """
    no_file = Config({"HistoryManager": {"enabled": False}})
    shell = Shell.instance(config=no_file)
    recorder, found = shell.recorder, {}
    hide_what_widgets_catch(recorder)
    terminal = sys.stdout
    sys.stdout, sys.stderr = Stream(recorder, "stdout"), Stream(recorder, "stderr")
    for number, cell in enumerate(cells):
        source, tags = "".join(cell["source"]), cell["metadata"].get("tags", [])
        if cell["cell_type"] != "code" or not source.strip():
            continue
        if "skip-execution" in tags:
            if wrong := unfilled(source, shell.user_ns):
                return {"outputs": found, "error": f"cell {number}: {wrong}\n{source}"}
            continue
        print(f"cell {number}", file=terminal, flush=True)
        recorder.outputs = found[number] = []
        done = shell.run_cell(source, store_history=True, cell_id=cell.get("id"))
        error = done.error_before_exec or done.error_in_exec
        if error is not None:
            trace = "".join(traceback.format_exception(error))
            return {"outputs": found, "error": f"cell {number}:\n{source}\n\n{trace}"}
        for output in recorder.outputs:
            output.pop("transient", None)
    return {"outputs": found, "error": None}


def main() -> int:
    faulthandler.enable()
    notebook, target = Path(sys.argv[1]), Path(sys.argv[2])
    sys.path[0] = ""  # the folder of the notebook, not that of this file
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    found = run_cells(json.loads(notebook.read_text(encoding="utf-8"))["cells"])
    target.write_text(json.dumps(found), encoding="utf-8")
    return int(found["error"] is not None)


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # threads that a notebook has left running are not waited for
