"""Lacks what it needs, in the way that LACKS names, or does not run where it was asked to."""

import os

from rnn_export.runtimes import Absent, Fallback

if os.environ.get("LACKS") == "a module at import":
    import module_that_nobody_has  # noqa: F401


def prepare(folder):
    if os.environ["LACKS"] == "a module in prepare":
        import another_module_that_nobody_has  # noqa: F401
    if os.environ["LACKS"] == "a device":
        raise Absent("this machine has no abacus")
    raise Fallback("asked for the abacus, but the node Scan is on the CPU")
