"""What a verdict can find, by stable code: what it means and what to do. A code is never given another meaning."""

from typing import NamedTuple

from rnn_export.errors import UsageError
from rnn_export.rules import RULES


class Finding(NamedTuple):
    """One kind of finding."""

    meaning: str
    remedy: str


FINDINGS = {
    "step-residual": Finding(
        "A step is not what the recurrence says of the state that the runtime itself produced one step before, to "
        "within one step's rounding. The detail names the first wrong step, row, unit and layer, and the arithmetic or "
        "the activation that would explain it.",
        "Where it names an arithmetic, ask the runtime for float32: use_tf32=0 on CUDA, INFERENCE_PRECISION_HINT=f32 "
        "in OpenVINO. Where it names another activation, say --nonlinearity, or the runtime ignores the attribute: the "
        "form scan has none. Otherwise the runtime is wrong for this form: try another.",
    ),
    "end-to-end": Finding(
        "The layers cannot be seen in this runtime, and the answers are more than 8 times as far from float64 as "
        "torch's own float32.",
        "Export with rnn-export, whose files show their layers; where rounding is amplified, shorten the input.",
    ),
    "not-judged": Finding(
        "Neither a step residual nor an end-to-end error could be measured, so nothing is proved.",
        "The detail says what is missing; a file with inputs h_0 and h_n can be judged step by step.",
    ),
    "frozen-length": Finding(
        "The file declares its length or batch dynamic, but was made for one size: at another it answers with the "
        "example's number of steps. torch's exporters do that to loops and, alone, to nn.RNN.",
        "Export the network with rnn-export, or inside rnn_export.exporting(); write a loop with rnn_export.over_time.",
    ),
    "fixed-axes": Finding(
        "Every axis of the file's inputs is fixed: it was exported for one length and one batch, and says so.",
        "Give dynamic_shapes to torch.onnx.export, with names such as {0: 'T', 1: 'B'}.",
    ),
    "padding": Finding(
        "Past the end of a shorter sequence the output is not 0: the runtime ignores the lengths, and in reverse the "
        "valid steps are wrong too. OpenVINO does so in the RNN operator with dynamic shapes.",
        "Take --form scan, whose mask is part of the graph.",
    ),
    "nan-swallowed": Finding(
        "A NaN in the input comes out as an ordinary number: relu kernels that compute max(x, 0) drop it, and kernels "
        "that round a state to 8 bits have no integer for it. What is wrong upstream stays unseen.",
        "Check inputs for NaN before they reach the server. It is a documented difference; only --strict fails.",
    ),
    "nan-misplaced": Finding(
        "NaN or infinity stands where IEEE arithmetic has none, or is missing where it has one.",
        "Check inputs for NaN and infinity before they reach the server, or take another runtime.",
    ),
    "no-steps": Finding(
        "With a sequence of length 0 the last state is not the initial one, or the runtime refuses.",
        "Do not send empty sequences. It is a difference between runtimes and fails under --strict only.",
    ),
    "no-rows": Finding(
        "An empty batch is refused.",
        "Do not send empty batches. It is a difference between runtimes and fails under --strict only.",
    ),
    "nan-refused": Finding(
        "A server refuses a request with NaN or infinity, which JSON does not have.",
        "Send binary tensors or gRPC where they matter. It is no wrong answer, and fails under --strict only.",
    ),
    "not-ready": Finding(
        "The server, or the model on it, says that it is not ready, or does not answer.",
        "Read the server's log: it says why the model was not loaded. Start it with rnn-export serve DIR.",
    ),
    "metadata": Finding(
        "The server names other inputs or outputs, types or sizes than the bundle: it serves another file, or guessed "
        "its configuration.",
        "Give it the bundle's own config.pbtxt; rnn-export ship --check DIR says what is wrong with a repository.",
    ),
    "golden": Finding(
        "The golden answers in the bundle are not what its network gives: they mislead who checks a client by them.",
        "Ship the artifact again; where the bundle is somebody else's, do not trust it.",
    ),
    "not-joined": Finding(
        "The server says that it joins requests, and joined none of those that were sent at once: what joining does to "
        "the answers was not seen.",
        "Probe again with more --clients, or on a machine where they do not share the server's processors.",
    ),
    "accepted": Finding(
        "The server answered a request that is wrong, as if nothing were: who sends wrong data will not learn of it.",
        "Give it a configuration that names every size, as rnn-export ship writes.",
    ),
    "mixed-up": Finding(
        "Under several clients an answer is not that of the client's own request. Servers join requests along axis 0: "
        "where that is time, strangers' steps become one sequence.",
        "Ship the network with rnn-export ship, whose graphs have the batch first, or set max_batch_size to 0.",
    ),
    "sequence": Finding(
        "A sequence sent in chunks is not the whole pass: its state was lost, not initialised, or another sequence's.",
        "Write initial_state for every state, end each sequence with END, and keep its requests on one server.",
    ),
    "state-ignored": Finding(
        "Another initial state changes nothing: h_0 does not reach the recurrence.",
        "Streaming with this file forgets its state; export it again with rnn-export.",
    ),
    "weights": Finding(
        "The file does not hold the checkpoint's weights, bit for bit, in the form's stated transformation. The detail "
        "names the tensor and the first difference. A fault that moves no output is found here and nowhere else.",
        "Export again from the checkpoint that you mean, or name it with --against.",
    ),
    "weights-unknown": Finding(
        "Somebody else's file holds its weights in a layout that is not known, so they were not read back.",
        "Its answers are judged all the same. A file that rnn-export makes is read back in full.",
    ),
    "wrong-shape": Finding(
        "An output has another shape or type than the network gives; nothing is broadcast.",
        "Compare the file's signature with rnn-export inspect; --batch-first turns input and output.",
    ),
    "missing-output": Finding(
        "The runtime did not give an output that the file declares.", "Report it to the runtime's developers."
    ),
    "overflow": Finding(
        "Every step overflows or follows a NaN, so no step could be judged.",
        "A relu or linear network whose spectral radius is above 1 grows without bound: rnn-export inspect says so.",
    ),
    "not-exercised": Finding(
        "No case that passed has several steps, an initial state and negative inputs: the recurrence never acted.",
        "Verify with the default cases, or with inputs of more than one step.",
    ),
    "fallback": Finding(
        "Part of the network is not placed on the execution provider that was asked for; the detail names the nodes.",
        "Take a form that the provider runs whole, such as rnn on CUDA, or deploy on the provider that really runs it.",
    ),
    "refused": Finding(
        "The runtime raised an error, loading or running the file; the detail is its own.",
        "Take another form: rnn-export list forms. scan runs in most runtimes.",
    ),
    "crashed": Finding(
        "The runtime's process ended with a signal or without a word: on a server it would take the server along.",
        "Do not send this input, or take another version or runtime; the case names the input.",
    ),
    "timeout": Finding(
        "The runtime did not answer in time.", "Give it more with --timeout SECONDS, or verify a shorter input."
    ),
    "memory": Finding(
        "The runtime ran out of the memory that its process may use.",
        "Verify a smaller input, or on a machine with more memory.",
    ),
    "broken": Finding(
        "The runtime fails the canary too, one small product: its installation or our adapter is at fault.",
        "Run rnn-export doctor; install the runtime again.",
    ),
    "absent": Finding(
        "The runtime is not installed here, or the machine lacks its device.",
        "The detail says what to type; --require makes absence an error.",
    ),
}

FINDINGS |= {rule.name: Finding(rule.meaning, rule.remedy) for rule in RULES.in_order()}


def explain(code: str) -> Finding:
    """What a code means.

    Raises:
        UsageError: there is no such code; the message names the closest one.
    """
    if code in FINDINGS:
        return FINDINGS[code]
    from difflib import get_close_matches

    close = get_close_matches(code, FINDINGS, n=1)
    hint = f"Did you mean {close[0]!r}?" if close else f"There are: {', '.join(FINDINGS)}"
    raise UsageError(f"no finding has the code {code!r}", hint)
