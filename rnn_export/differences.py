"""What in a folder differs from its manifest: all of it at once, each in a word.

Damage is what the folder holds otherwise than its manifest says, and nothing damaged is loaded. Exposure is content
that is right and that others can change: another name of the same file (a hard link), or a mode. Backups, caches and
some file systems make both of every file, and a verification runs a copy that was checked; so exposure is listed, and
does not stop loading.
"""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnn_export.errors import ArtifactError
from rnn_export.manifest import MANIFEST, VERIFICATION, sha256_of

EXPOSURE = frozenset({"hard link", "mode"})
_NO_PLAIN_FILE = {
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


@dataclass(frozen=True)
class Problem:
    """One thing that is not as it was made.

    Attributes:
        kind: in a word: changed, swapped, missing, extra, renamed, linked, no file, unreadable, empty folder; hard link
            and mode where the content is right; record and signature of what speaks about the folder.
        file: where, seen from the folder; "." for the folder itself.
        detail: in words.
    """

    kind: str
    file: str
    detail: str

    def in_words(self, path: Path) -> str:
        """One sentence, for an error about that folder."""
        if self.kind == "missing":
            return f"{path} lacks {self.file}, which its manifest lists"
        if self.kind in ("extra", "empty folder"):
            return f"{path} holds {self.file}, which its manifest does not list"
        return f"{self.file} in {path} was changed after it was exported: {self.detail}"


@dataclass(frozen=True)
class Listing:
    """Everything in a folder that no manifest could leave out.

    Attributes:
        things: name -> what it is, of files, links, pipes, and folders that are empty or cannot be looked into.
        folders: name -> what it is, of every folder, the folder itself, ".", among them.
    """

    things: Mapping[str, os.stat_result]
    folders: Mapping[str, os.stat_result]

    @property
    def plain(self) -> Mapping[str, os.stat_result]:
        """The plain files."""
        return {name: status for name, status in self.things.items() if stat.S_ISREG(status.st_mode)}


def list_folder(path: Path) -> Listing:
    """Look through a folder; links are not followed."""
    things, folders = {}, {".": path.stat()}
    waiting = [path]
    while waiting:
        place = waiting.pop()
        name = place.relative_to(path).as_posix()
        try:
            inner = list(os.scandir(place))
        except PermissionError:
            inner = []
        if not inner and name != ".":
            things[name] = folders[name]
        for entry in inner:
            status, below = entry.stat(follow_symlinks=False), place / entry.name
            kept = folders if entry.is_dir(follow_symlinks=False) else things
            kept[below.relative_to(path).as_posix()] = status
            waiting += [below] if kept is folders else []
    return Listing(things, folders)


def file_digests(path: Path) -> dict[str, str]:
    """The sha256 of every file in a folder, for its manifest."""
    return {name: sha256_of(path / name) for name in sorted(list_folder(path).things)}


def may_hold(manifest: Mapping[str, Any]) -> set[str]:
    """The names of all files in a folder of that manifest."""
    return {*manifest["files"], MANIFEST} | (set() if "kind" in manifest else {VERIFICATION})


def check_files(path: Path, manifest: Mapping[str, Any]) -> None:
    """Raises ArtifactError where a file is changed, missing, added or not a plain file; exposure is none of that."""
    damage = [problem for problem in problems_in(path, manifest) if problem.kind not in EXPOSURE]
    if damage:
        more = f" (and {len(damage) - 1} more: rnn-export check lists all)" if len(damage) > 1 else ""
        raise ArtifactError(f"{damage[0].in_words(path)}{more}", "Do not use it; export it again")


def problems_in(path: Path, manifest: Mapping[str, Any]) -> list[Problem]:
    """Damage by the names of the files, then exposure.

    Raises:
        FileNotFoundError: the folder was replaced while it was read.
    """
    listing = list_folder(path)
    expected, plain = dict(manifest["files"]), listing.plain
    beside = may_hold(manifest) - set(expected)
    odd = [
        _no_plain_file(name, listing.things[name])
        for name in (set(expected) | beside) & set(listing.things) - set(plain)
    ]
    digests, unreadable = _digests(path, sorted(set(expected) & set(plain)))
    missing = [name for name in expected if name not in listing.things]
    added = [name for name in listing.things if name not in set(expected) | beside]
    renamed = _renamed(path, {name: expected[name] for name in sorted(missing)}, sorted(set(added) & set(plain)))
    damage = [
        *odd,
        *unreadable,
        *_changed(expected, digests),
        *(Problem("renamed", old, f"it is now {new}") for old, new in renamed.items()),
        *(Problem("missing", name, "the manifest lists it") for name in missing if name not in renamed),
        *(_added(name, listing.things[name]) for name in added if name not in renamed.values()),
    ]
    return [*sorted(damage, key=lambda problem: problem.file), *_exposure(listing)]


def _no_plain_file(name: str, status: os.stat_result) -> Problem:
    """A pipe would be waited for, a link followed."""
    what = _NO_PLAIN_FILE.get(stat.S_IFMT(status.st_mode), "a device")
    return Problem("linked" if what == "a link" else "no file", name, f"it is {what}, and no plain file")


def _added(name: str, status: os.stat_result) -> Problem:
    if stat.S_ISDIR(status.st_mode):
        return Problem("empty folder", name, "the manifest does not list it")
    what = _NO_PLAIN_FILE.get(stat.S_IFMT(status.st_mode))
    return Problem("extra", name, f"the manifest does not list it{f', and it is {what}' if what else ''}")


def _digests(path: Path, names: list[str]) -> tuple[dict[str, str], list[Problem]]:
    """The sha256 of each file, and those that cannot be read."""
    digests, problems = {}, []
    for name in names:
        try:
            digests[name] = sha256_of(path / name)
        except FileNotFoundError:
            raise
        except OSError as error:
            problems.append(Problem("unreadable", name, f"it cannot be read: {error.strerror}"))
    return digests, problems


def _changed(expected: Mapping[str, Any], found: Mapping[str, str]) -> list[Problem]:
    """The files of another sha256, and where their content belongs if it is that of another one."""
    owners = {digest: name for name, digest in expected.items() if isinstance(digest, str)}
    problems = []
    for name, digest in found.items():
        if digest == expected[name]:
            continue
        owner = owners.get(digest)
        if owner is None:
            problems.append(Problem("changed", name, "its sha256 is another"))
        elif found.get(owner) == expected[name]:
            problems.append(Problem("swapped", name, f"it holds what belongs into {owner}, and the other way round"))
        else:
            problems.append(Problem("changed", name, f"it holds what belongs into {owner}"))
    return problems


def _renamed(path: Path, missing: Mapping[str, Any], added: list[str]) -> dict[str, str]:
    """Missing file -> the added one of the same content, each used once; nothing is read where nothing is missing."""
    candidates = _digests(path, added)[0] if missing else {}
    renamed: dict[str, str] = {}
    for name, digest in missing.items():
        new = next((other for other in candidates if candidates[other] == digest), None)
        if new is not None:
            renamed[name] = new
            del candidates[new]
    return renamed


def _exposure(listing: Listing) -> list[Problem]:
    problems = []
    for name, status in sorted(listing.plain.items()):
        if status.st_nlink > 1:
            detail = f"one of {status.st_nlink} names of one file, which can be changed through the others"
            problems.append(Problem("hard link", name, detail))
        if words := _mode_words(status.st_mode, 0o7111):
            problems.append(Problem("mode", name, words))
    folders = ((name, _mode_words(status.st_mode, 0)) for name, status in sorted(listing.folders.items()))
    return [*problems, *(Problem("mode", name, words) for name, words in folders if words)]


def _mode_words(mode: int, special: int) -> str:
    """What a mode allows that data need not; empty where that is nothing.

    Args:
        mode: of the file.
        special: the bits beside "writable by everybody" that count.
    """
    words = ["executable"] if mode & special & 0o111 else []
    words += ["setuid, setgid or sticky"] if mode & special & 0o7000 else []
    words += ["writable by everybody"] if mode & 0o002 else []
    return f"{' and '.join(words)}: {stat.S_IMODE(mode):04o}" if words else ""
