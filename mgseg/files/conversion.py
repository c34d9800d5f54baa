"""Conversion of pixel formats by one thread.

PyAV 17 and later convert by as many threads as there are cores. libswscale then spoils a few pixels where the rows of a
thread begin, where the result has more than 8 bits or four channels. RGB and YUV of 8 bits are not affected.
"""

from typing import Any

from av import VideoFrame

# For `VideoFrame.reformat` and `to_ndarray`; older versions have no such parameter and one thread.
ONE_THREAD: dict[str, Any] = {"threads": 1} if "threads" in (VideoFrame.reformat.__doc__ or "") else {}
