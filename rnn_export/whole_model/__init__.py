"""A whole torch model: exported into a folder, and judged at sizes that it was not exported at.

factory         package.module:factory -> a model and its inputs
users_code      what code of the user's raises, in one line
sizes           the model's inputs at the example's sizes, and at others
dynamic_axes    which axes of the inputs are dynamic: inputs_of()
networks        the recurrent networks that a model holds
exporter        torch's exporter, and what it raises in one line
model_folder    the folder with model.onnx and its manifest: export_model()
truth           what the model computes, in its own type and in float64
comparison      the outputs of the file held against both
recurrent_nodes of the file: shown in an instrumented copy, judged by their steps
recognition     which layer of the model a node is
repeatability   whether the model answers one input twice alike
model_subject   what is verified: the file, its instrumented copy, and the cases
model_verdict   every case run and judged: verify_model()
"""
