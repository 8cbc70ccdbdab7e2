"""docs/servers.md is fresh, as far as that can be said without a server, and a stale page is found."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "servers.md"


def check(page: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(ROOT / "scripts" / "servers.py"), "--check", str(page)]
    return subprocess.run(line, capture_output=True, text=True)


def test_the_page_is_fresh_whatever_a_server_said(tmp_path):
    """Times, the probe's tables and its column of the wrong ones are of the day on which they were measured."""
    text = re.sub(
        r"\[\d+\.\d s\]|In all \d+ s|it took \d+", lambda found: re.sub(r"\d+", "77", found[0]), PAGE.read_text()
    )
    text = text.replace("MISMATCH mixed-up", "nothing").replace("PASSED on", "FAILED on").replace(" PASS ", " FAIL ")
    assert text != PAGE.read_text()
    (tmp_path / "page.md").write_text(text)
    done = check(tmp_path / "page.md")
    assert done.returncode == 0, done.stdout + done.stderr


CHANGES = {  # what stands in the page -> what a stale one would have there
    "## Targets": "## Places",
    "| `triton` |": "| `tryton` |",
    "--artifact bundle --load ": "--artifact bundle --loud ",
    " s are load runs": " s were load runs",
    "### rnn:8,64 on mlserver, client-state": "### rnn:8,64 on mlserver",
    "| T4 | MISMATCH T4 | nothing |": "| T4 | nothing | nothing |",
    "| T5 | MISMATCH T5 | nothing |": "| T5 | MISMATCH T5 | MISMATCH T5 |",
    "| T13 | MISMATCH T13": "| T13 | nothing",
    "all sequences share one state": "all sequences share two states",
    "| T11 | The limit": "| T11 | A limit",
}


def test_every_stale_part_is_found(tmp_path):
    text = PAGE.read_text()
    for now, stale in CHANGES.items():
        assert text.count(now) == 1, now
        text = text.replace(now, stale)
    text = re.sub(r"\n\| T9 \|[^\n]*", "", text, count=1)
    (tmp_path / "page.md").write_text(text)
    done = check(tmp_path / "page.md")
    assert done.returncode == 1
    gone = [line for line in done.stdout.splitlines() if line.startswith("- ")]
    new = [line for line in done.stdout.splitlines() if line.startswith("+ ")]
    for now, stale in CHANGES.items():
        assert [stale in line for line in gone].count(True) == 1, stale
        assert [now in line for line in new].count(True) == 1, now
    assert (len(gone), len(new)) == (len(CHANGES), len(CHANGES) + 1)
    assert any(line.startswith("+ | T9 | MISMATCH T9") for line in new)
