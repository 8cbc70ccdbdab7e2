"""What torch's exporter gets of a model while ``exporting()`` is on.

replacement    puts the others in place around torch.onnx.export, and takes them away: exporting()
layers         nn.RNN: one ONNX RNN per layer, or one Scan per layer and direction
packing        pack_padded_sequence and pad_packed_sequence: padded data with its lengths
frozen_sizes   the line of the user's that would freeze a length or a batch
"""
