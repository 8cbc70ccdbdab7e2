"""How much memory a command takes at its peak."""

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

MIB = 2**20
# VmHWM and not ru_maxrss: that one starts with the memory of the process that started this one.
_SCRIPT = """
import sys
from pathlib import Path
from rnn_export.cli import main
try:
    main()
finally:
    print(next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line), file=sys.stderr)
"""


class Peak(NamedTuple):
    code: int
    bytes: int  # resident, of the command's own process
    out: str


def peak_of(*arguments: object, timeout: float = 600) -> Peak:
    """Run ``rnn-export ARGUMENTS`` in a process of its own."""
    line = [sys.executable, "-c", _SCRIPT, *map(str, arguments)]
    root = Path(__file__).parent.parent
    done = subprocess.run(line, capture_output=True, text=True, timeout=timeout, check=False, cwd=root)
    (kibibytes,) = re.findall(r"VmHWM:\s+(\d+) kB", done.stderr)
    return Peak(done.returncode, int(kibibytes) * 1024, done.stdout)
