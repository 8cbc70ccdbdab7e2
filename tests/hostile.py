"""Crafted files: pickles that create a canary in a real unpickler, in every container that ``torch.save`` writes."""

import io
import marshal
import pickle
import pickletools
import tarfile
import zipfile
from collections.abc import Iterator

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
CANARY = "CANARY-FILE"  # replaced by a path that is as long
BAIT = "canary_bait"  # a module on the path that creates the canary when it is imported
EXTENSION = 201  # a code that the tests register for os.system
_CODE = marshal.dumps(compile(f"open({CANARY!r}, 'w')", "crafted", "eval"))
_STATEMENT, _COMMAND = f"open({CANARY!r}, 'w')", f"touch {CANARY}"


def body(value: object) -> bytes:
    """The opcodes that push a plain value."""
    return pickletools.optimize(pickle.dumps(value, 2))[2:-1]


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def stacked(module: str, attribute: str) -> bytes:
    return body(module) + body(attribute) + b"\x93"


def called(function: bytes, *args: bytes) -> bytes:
    return function + b"(" + b"".join(args) + b"tR"


# What creates the canary when it is called.
CALLS: list[tuple[str, str, tuple[object, ...]]] = [
    ("os", "system", (_COMMAND,)),
    ("posix", "system", (_COMMAND,)),
    ("os", "popen", (_COMMAND,)),
    ("os", "open", (CANARY, 65)),
    ("os", "mkdir", (CANARY,)),
    ("os", "makedirs", (CANARY,)),
    ("os", "mkfifo", (CANARY,)),
    ("os", "symlink", ("/", CANARY)),
    ("os", "spawnlp", (0, "touch", "touch", CANARY)),
    ("posix", "posix_spawn", ("/usr/bin/touch", ["touch", CANARY], {})),
    ("subprocess", "Popen", (["touch", CANARY],)),
    ("subprocess", "run", (["touch", CANARY],)),
    ("subprocess", "call", (["touch", CANARY],)),
    ("subprocess", "check_call", (["touch", CANARY],)),
    ("subprocess", "check_output", (["touch", CANARY],)),
    ("subprocess", "getoutput", (_COMMAND,)),
    ("commands", "getoutput", (_COMMAND,)),
    ("builtins", "eval", (_STATEMENT,)),
    ("builtins", "exec", (_STATEMENT,)),
    ("__builtin__", "eval", (_STATEMENT,)),
    ("builtins", "open", (CANARY, "w")),
    ("io", "open", (CANARY, "w")),
    ("_io", "FileIO", (CANARY, "w")),
    ("codecs", "open", (CANARY, "w")),
    ("gzip", "open", (CANARY, "wb")),
    ("bz2", "open", (CANARY, "wb")),
    ("tarfile", "open", (CANARY, "w")),
    ("zipfile", "ZipFile", (CANARY, "w")),
    ("shutil", "copyfile", ("/etc/passwd", CANARY)),
    ("logging", "FileHandler", (CANARY,)),
    ("pickle", "loads", (b"\x80\x02" + called(name("os", "system"), body(_COMMAND)) + b".",)),
    ("_pickle", "loads", (b"\x80\x02" + called(name("os", "system"), body(_COMMAND)) + b".",)),
    ("builtins", "__import__", (BAIT,)),
    ("importlib", "import_module", (BAIT,)),
    ("pydoc", "locate", (BAIT,)),
    ("cProfile", "run", (_STATEMENT,)),
    ("pydoc", "pipepager", ("", _COMMAND)),
    ("numpy.testing._private.utils", "runstring", (_STATEMENT, {})),
    (BAIT, "anything", ()),
]
_OS = called(name("builtins", "__import__"), body("os"))
# What needs more than one call.
CHAINS: dict[str, bytes] = {
    "getattr": called(called(name("builtins", "getattr"), _OS, body("system")), body(_COMMAND)),
    "partial": called(called(name("functools", "partial"), name("os", "system"), body(_COMMAND))),
    "attrgetter": called(called(called(name("operator", "attrgetter"), body("system")), _OS), body(_COMMAND)),
    "methodcaller": called(called(name("operator", "methodcaller"), body("system"), body(_COMMAND)), _OS),
    "map": called(name("builtins", "list"), called(name("builtins", "map"), name("os", "system"), body([_COMMAND]))),
    "code": called(called(name("types", "FunctionType"), called(name("marshal", "loads"), body(_CODE)), body({}))),
    "dotted": called(stacked("pathlib", "Path.touch"), called(name("pathlib", "Path"), body(CANARY))),
    "module in module": called(stacked("pathlib", "os.system"), body(_COMMAND)),
    "ctypes": called(
        called(name("builtins", "getattr"), called(name("ctypes", "CDLL"), b"N"), body("system")),
        body(_COMMAND.encode()),
    ),
    "setstate": called(
        name("builtins", "type"), body("X"), b")", b"}" + body("__setstate__") + name("os", "system") + b"s"
    )
    + b")\x81"
    + body(_COMMAND)
    + b"b",
    "getitem": called(
        called(
            name("operator", "getitem"),
            called(name("builtins", "vars"), _OS),
            body("system"),
        ),
        body(_COMMAND),
    ),
    "extension": b"\x82" + bytes([EXTENSION]) + b"(" + body(_COMMAND) + b"tR",
    "extension of two bytes": b"\x83" + EXTENSION.to_bytes(2, "little") + b"(" + body(_COMMAND) + b"tR",
    "extension of four bytes": b"\x84" + EXTENSION.to_bytes(4, "little") + b"(" + body(_COMMAND) + b"tR",
    "memo": name("os", "system") + b"q\x01" + b"0h\x01(" + body(_COMMAND) + b"tR",
    "duplicate": name("os", "system") + b"2(" + body(_COMMAND) + b"tR",
    "webbrowser": called(
        called(
            name("builtins", "getattr"), called(name("webbrowser", "BackgroundBrowser"), body("touch")), body("open")
        ),
        body(CANARY),
    ),
}


def payload(code: bytes) -> bytes:
    """A complete pickle; Python translates the names of Python 2 below protocol 3 only."""
    old = b"c__builtin__\n" in code or b"ccommands\n" in code
    return (b"\x80\x02" if old else b"\x80\x04") + code + b"."


def opcodes(module: str, attribute: str, args: tuple[object, ...]) -> Iterator[tuple[str, bytes]]:
    """Every opcode that would call."""
    function, parts, whole = name(module, attribute), b"".join(body(arg) for arg in args), body(args)
    yield "REDUCE", function + whole + b"R"
    yield "REDUCE of STACK_GLOBAL", stacked(module, attribute) + whole + b"R"
    yield "NEWOBJ", function + whole + b"\x81"
    yield "NEWOBJ_EX", function + whole + b"}\x92"
    yield "INST", b"(" + parts + f"i{module}\n{attribute}\n".encode()
    yield "OBJ", b"(" + function + parts + b"o"


def expressions() -> Iterator[tuple[str, bytes]]:
    """What creates the canary, as opcodes that leave one value on the stack."""
    for module, attribute, args in CALLS:
        for opcode, code in opcodes(module, attribute, args):
            yield f"{module}.{attribute} by {opcode}", code
    yield from CHAINS.items()


def placed(code: bytes) -> Iterator[tuple[str, bytes]]:
    """An expression as the root of a pickle, and where a checkpoint has its trusted parts."""
    rebuild, ordered = name("torch._utils", "_rebuild_tensor_v2"), name("collections", "OrderedDict")
    yield "root", code
    yield "storage of a tensor", called(rebuild, code, body(0), body((1,)), body((1,)), b"\x89", ordered + b")R")
    yield "data of a parameter", called(name("torch._utils", "_rebuild_parameter"), code, b"\x88", ordered + b")R")
    yield "reference", code + b"Q"
    yield "storage type", b"(" + body("storage") + code + body("0") + body("cpu") + body(1) + b"tQ"
    yield "key", b"}" + code + b"Ns"
    yield "state of a module", name("torch.nn.modules.rnn", "RNN") + b")\x81}" + body("_parameters") + code + b"sb"
    yield "state of a class", ordered + b"}" + body("canary") + code + b"sb"


def containers(code: bytes) -> Iterator[tuple[str, bytes]]:
    """Complete files in which a pickle is where a reader would load it."""
    whole = payload(code)
    head = pickle.dumps(MAGIC, 2) + pickle.dumps(PROTOCOL, 2)
    empty = pickle.dumps({}, 2)
    yield "raw.pt", whole
    yield (
        "zip.pt",
        zipped({"x/data.pkl": whole, "x/byteorder": b"little", "x/data/0": b"\0\0\0\0", "x/version": b"3"}),
    )
    yield "legacy.pt", head + empty + whole + pickle.dumps([], 2)
    yield "legacy-system.pt", head + whole + empty + pickle.dumps([], 2)
    yield "legacy-keys.pt", head + empty + empty + whole
    yield "tar.pt", tarred(storages=number(0) + pickle.dumps([], 2), tensors=number(0), pickle=whole)
    yield "tar-storages.pt", tarred(storages=number(1) + whole, tensors=number(0), pickle=empty)


def number(value: int) -> bytes:
    return pickle.dumps(value, 2)


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return stream.getvalue()


def tarred(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member, content in members.items():
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()
