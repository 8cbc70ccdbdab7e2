"""What the CUDA rows share: whether there is a device at all."""

from rnn_export.runtimes import Absent


def need_cuda_device() -> None:
    """Ask the driver itself, because most packages for CUDA also load without a GPU.

    Raises:
        Absent: there is no CUDA driver or no device.
    """
    import ctypes

    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise Absent("no CUDA driver on this machine (libcuda.so.1)") from None
    count = ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        raise Absent("no CUDA device on this machine")
