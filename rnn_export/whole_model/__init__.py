"""A whole torch model: exported into a folder, and judged at sizes that it was not exported at.

factory         package.module:factory -> a model and its inputs
sizes           which axes are dynamic, and inputs of other sizes
model_folder    the folder with model.onnx and its manifest: export_model()
truth           what the model computes, in its own type and in float64
parts           the recurrent parts of the file: recognised by their weights, judged by their steps
model_subject   what is verified: the file, its instrumented copy, and the cases
model_verdict   every case run and judged: verify_model()
"""
