"""The faults that ``scripts/planted_faults.py`` plants, and the correct runs beside them.

nets                which networks
weights, graph      faults of the file
lying_runtime       faults of the run: ONNX Runtime, whose answers are corrupted
emulated_runtime    faults inside the recurrence: a loop in numpy, in another arithmetic or with a wrong step
plan                which input is answered with which lie
sizes               how small a fault is when its own residual, without rounding, is 8
planting            every fault of one network as trials
trials              what the verdict, numpy.allclose and torch's verify say of the same answers
correct             the correct runs
"""
