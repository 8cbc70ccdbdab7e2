"""Exports over an artifact and is killed before every single change of the disk in turn.

    python killed_export.py FOLDER [fresh] [external]

Prints one JSON object per kill: what stood in the folder then, what could be read, and what stood there after the
next export. ``fresh``: nothing stands there at first; ``external``: the weights lie beside the model.
"""

import json
import os
import shutil
import signal
import sys
from itertools import count
from pathlib import Path

from rnn_export import forms
from rnn_export.artifact import Artifact
from rnn_export.errors import ArtifactError
from rnn_export.pipeline import export

CHANGES = {"os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.unlink"}
OLD, NEW = "rnn:3,4,seed=1", "rnn:3,4,seed=2"


def die_at(number: int, folder: Path) -> None:
    seen = count(1)

    def watch(event: str, arguments: tuple) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        # shutil.rmtree names what it removes by its last part alone, and a descriptor of its folder
        near = isinstance(arguments[0], str) and (str(folder) in arguments[0] or not arguments[0].startswith("/"))
        if (writes or event in CHANGES) and near and next(seen) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def what_stands(final: Path) -> str:
    try:
        source = Artifact.load(final).manifest["source"]["name"]
    except ArtifactError as error:
        return f"{type(error).__name__}: {error}".replace(str(final.parent), "")
    return {OLD: "old", NEW: "new"}[source]


def main(folder: Path, fresh: bool) -> None:
    template = export(OLD, folder / "template").path
    place = folder / "place"
    for number in count(1):
        place.mkdir()
        if not fresh:
            shutil.copytree(template, place / "out")
        pid = os.fork()
        if pid == 0:
            die_at(number, place)
            export(NEW, place / "out")
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        left = sorted(path.name for path in place.iterdir())
        read = what_stands(place / "out")
        export(NEW, place / "out")
        after = sorted(path.name for path in place.iterdir())
        killed = os.WIFSIGNALED(status)
        record = {"killed": killed, "left": left, "read": read, "then": what_stands(place / "out"), "after": after}
        print(json.dumps(record), flush=True)
        shutil.rmtree(place)
        if not killed:
            assert os.WEXITSTATUS(status) == 0
            return


if __name__ == "__main__":
    if "external" in sys.argv:
        forms.EXTERNAL_ABOVE = 0
    main(Path(sys.argv[1]).resolve(), "fresh" in sys.argv[2:])
