"""A headless Chromium with one page, and the server that it gets its files and messages from."""

import json
import os
import queue
import secrets
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from rnn_export.runtimes import Absent
from rnn_export.runtimes._javascript import end_as, end_as_lost, started

NAMES = ("chromium", "chromium-browser", "google-chrome")
HOW_TO_INSTALL = "apt-get install chromium, or as your system does"
TYPES = {".html": "text/html", ".mjs": "text/javascript", ".wasm": "application/wasm"}  # others are read as bytes
FLAGS = (
    "--headless=new",
    "--disable-gpu",
    "--disable-dev-shm-usage",  # in a container /dev/shm has 64 MiB
    "--disable-breakpad",  # its handler of crashes would outlive the browser
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # nobody else is asked for anything
)
GLANCE = 0.2  # seconds between looks at whether the browser still lives
LAST_BREATH = 3.0  # seconds from the loss of the page to the browser's end, where it is the browser that ends


def chromium() -> str | None:
    """The browser's program, None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Page:
    """One page in a browser of its own, asked in messages.

    Args:
        files: what the page may load: names to paths. ``files`` may grow later.
        start: the name of the page among them.

    Raises:
        Absent: this machine has no Chromium.
    """

    def __init__(self, files: Mapping[str, Path], start: str) -> None:
        program = chromium()
        if program is None:
            raise Absent(f"no browser ({', '.join(NAMES)}) on the PATH: {HOW_TO_INSTALL}")
        self.files = dict(files)
        self._requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        secret = secrets.token_urlsafe()  # others on this machine can reach the port
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, f"/{secret}/"))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        home = tempfile.mkdtemp()
        address = f"http://127.0.0.1:{server.server_port}/{secret}/{start}"
        door = Path(home) / "door.html"  # everybody can read a command line, but this file only we
        door.write_text(f'<meta http-equiv="refresh" content="0; url={address}">')
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # for root Chromium has none
        line = [program, *FLAGS, *sandbox, f"--user-data-dir={home}/profile", door.as_uri()]
        # From within its folder: an absolute path may be longer than a socket's may be.
        self._browser = started(line, cwd=home, env={**os.environ, "HOME": home, "TMPDIR": "."})

    def ask(self, message: bytes) -> tuple[dict[str, Any], bytes]:
        """The header and the bytes of the page's answer; where there will be none, this process ends."""
        self._requests.put(message)
        while True:
            try:
                answer = self._answers.get(timeout=GLANCE)
            except queue.Empty:
                if self._browser.poll() is not None:
                    end_as(self._browser)
                continue
            if answer is None:
                with suppress(subprocess.TimeoutExpired):
                    self._browser.wait(LAST_BREATH)
                    end_as(self._browser)
                end_as_lost("the page's process in Chromium ended")
            end = 4 + int.from_bytes(answer[:4], "big")
            return json.loads(answer[4:end]), answer[end:]


def _handler(page: Page, root: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name = self.path.removeprefix(root)
            if self.path == root + "alive":
                self.rfile.read(1)  # until the page is gone
                page._answers.put(None)
            elif self.path.startswith(root) and name in page.files:
                file = page.files[name]
                with file.open("rb") as stream:
                    self._begin(file.stat().st_size, TYPES.get(file.suffix, "application/octet-stream"))
                    shutil.copyfileobj(stream, self.wfile)
            else:
                self.send_error(404)

        def do_POST(self) -> None:
            if self.path != root + "next":
                self.send_error(404)
                return
            if answer := self.rfile.read(int(self.headers["Content-Length"])):
                page._answers.put(answer)
            message = page._requests.get()
            self._begin(len(message), "application/octet-stream")
            self.wfile.write(message)

        def _begin(self, size: int, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(size))
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            """Nobody reads a log of it."""

    return Handler
