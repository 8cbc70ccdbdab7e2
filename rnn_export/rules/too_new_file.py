"""T13: opset or IR version too new for the server."""

from rnn_export.onnxruntime_releases import RELEASES
from rnn_export.rules import Model, Outcome, error, note, rule, warning


@rule(
    "T13",
    meaning="The file's opset or IR version is newer than what the ONNX Runtime of that release of Triton loads; "
    "where no release was named, than what every known one does.",
    remedy="Export again with --opset, or ship with --triton-release, which draws no newer operators; or take a "
    "newer server.",
)
def check(model: Model) -> list[Outcome] | None:
    if model.graph is None:
        return None
    opset, ir_version, release = model.graph.opset, model.graph.ir_version, model.release
    what = f"{model.place} has opset {opset}, IR {ir_version}"
    if release is not None:
        if release.takes(opset, ir_version):
            return []
        limits = f"opset {release.opset}, IR {release.ir_version}"
        return [error(f"{what}, and Triton {release.name} (ONNX Runtime {release.onnxruntime}) loads up to {limits}")]
    taking = [known.name for known in RELEASES.values() if known.takes(opset, ir_version)]
    if not taking:
        return [warning(f"{what}: no release of Triton that is known here loads that")]
    return [] if len(taking) == len(RELEASES) else [note(f"{what}: Triton {taking[0]} and newer load that")]
