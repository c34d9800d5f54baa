"""Selection of the objects of an index map that are large enough for training."""

from PIL import Image

from mgseg.data.scene import UInt8Array


def find_objects(mask: UInt8Array, min_area: float) -> list[int]:
    """Find the ids 1..254 that cover at least a share `min_area` of the mask."""
    counts = Image.fromarray(mask).histogram()
    return [object_id for object_id in range(1, 255) if counts[object_id] >= min_area * mask.size]
