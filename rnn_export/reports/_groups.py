"""Which kind of case a case is, by its name: the columns of a page's table of who computes what."""

import re

GROUPS = {
    "lengths and batches": r"T=[1-9]",
    "inputs": r"(one-hot|uniform|negative|zeros|tiny|large) ",
    "state": r"(h_0=0|state|chunks) ",
    "rows": r"rows ",
    "server": r"(ready|metadata|golden|bad request)",
    "side by side": r"(concurrent|sequences|load)",
    "NaN, infinity": r"(NaN|Inf) ",
    "empty": r"(B=0|T=0)( |$)",
    "own data": r".*\.npz",
}
OTHER = "other"


def group_of(case: str) -> str:
    """The group of a case; that of a whole model, or one that is not known, is OTHER."""
    return next((name for name, pattern in GROUPS.items() if re.match(pattern, case)), OTHER)
