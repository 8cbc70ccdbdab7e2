"""The types of tensors: as ONNX numbers them, as a configuration of Triton calls them, and as numpy holds them."""

import numpy as np
from onnx import TensorProto, helper

from rnn_export.serving import DATATYPES

_ALIKE = "BOOL STRING INT8 INT16 INT32 INT64 UINT8 UINT16 UINT32 UINT64"  # ONNX and Triton call these the same
DATA_TYPES = {number: f"TYPE_{name}" for number, name in DATATYPES.items()}  # ONNX element type -> Triton's name
DATA_TYPES |= {TensorProto.DataType.Value(name): f"TYPE_{name}" for name in _ALIKE.split()}
DTYPES = {  # Triton's name -> numpy's type, for what inputs can be made of
    name: np.dtype(helper.tensor_dtype_to_np_dtype(number))
    for number, name in DATA_TYPES.items()
    if number != TensorProto.STRING
}
