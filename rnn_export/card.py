"""The card of a bundle: what it is, what clients send, how it runs, and how it was verified."""

from rnn_export.bundle import Facts
from rnn_export.serving import Tensor
from rnn_export.targets import Target

STATES = {
    "none": "Every request is a whole sequence, from {start}. The last states come back as h_n.",
    "client": "The client holds the state: send h_n of one request as h_0 of the next; {start} to begin.",
    "server": "The server holds the state: send the steps of one sequence in requests of any lengths, one row each, "
    "with one sequence id (a number above 0), START in the first (it begins from {start}) and END in the last.",
}


def card_of(facts: Facts, target: Target) -> str:
    """The text of README.md, in Markdown."""
    interface, proof = facts.interface, facts.proof
    start = "the learned state in proof/initial_state.npz" if facts.learned_state else "zeros"
    rows = [_row("input", tensor) for tensor in interface.sent] + [_row("output", one) for one in interface.outputs]
    release = f", for Triton {facts.release}" if facts.release else ""
    graph = f"`{facts.form}` (opset {facts.opset}, IR {facts.ir_version})"
    passed = ", ".join(f"{name} {version}" for name, version in proof.verified_on.items())
    before = f"verified on {passed}" if passed else "**never verified** (--unverified)"
    residual = "no step residual" if proof.residual is None else f"largest step residual {proof.residual:.2f}"
    length = "any length" if facts.steps is None else f"{facts.steps} steps"
    lines = [
        f"# {facts.name}",
        "",
        f"{facts.network}, {facts.dtype}, drawn in the form {graph}, for {target.summary}{release}.",
        "",
        STATES[interface.state].format(start=start),
        "",
        "| | name | type | shape |",
        "|---|---|---|---|",
        *rows,
        "",
        f"B is the batch, at most {facts.max_batch} rows in one run; T is {length}.",
        "",
        "## Run it",
        "",
        f"    {target.serve}",
        *_probing(facts, target),
        "",
        "## How it was verified",
        "",
        f"- The graph in this folder: {proof.cases} cases on {proof.runtime} {proof.version}, "
        f"{residual} (up to 4 it is this network).",
        f"- The artifact that it was made from: {before}.",
        f"- Its manifest: sha256 {proof.artifact}.",
        "- Every file here: `rnn-export check DIR`.",
    ]
    return "\n".join(lines) + "\n"


def _probing(facts: Facts, target: Target) -> list[str]:
    """How to ask what runs, DIR being the bundle's folder."""
    if not target.open_inference:
        return ["", "DIR is this folder. `proof/golden/N.npz` holds requests and their answers."]
    return [
        f"    rnn-export probe http://127.0.0.1:8000 --model {facts.name} --artifact DIR",
        "",
        "DIR is this folder. `proof/golden/N.json` is the body of a request, `N.npz` has the answers too:",
        "",
        "    curl -H 'Content-Type: application/json' -d @DIR/proof/golden/0.json "
        f"http://127.0.0.1:8000/v2/models/{facts.name}/infer",
    ]


def _row(kind: str, tensor: Tensor) -> str:
    shape = ", ".join(["B", *("T" if size < 0 else str(size) for size in tensor.shape)])
    return f"| {kind} | `{tensor.name}` | {tensor.datatype} | ({shape}) |"
