"""Object numbers: the same object gets the same number in all given masks, whatever their form."""

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from mgseg.errors import InputError
from mgseg.files.masks import VOID, WHITE, MaskFile, object_ids
from mgseg.segment.mask_parts import Key, Labels

Mask = NDArray[np.uint8]


class ObjectNumbers:
    """Numbers objects by colour or label, or keeps the numbers of the file.

    Args:
        names: name of each number, if the user gave any; labels of annotation files must then be among them.

    Attributes:
        ids: all numbers in use.
        names: those given, and the labels of annotation files.
        palette: 768 bytes, the colours of the masks given; None where they have none.
    """

    def __init__(self, names: Mapping[int, str] | None = None) -> None:
        self.ids: set[int] = set()
        self.names = dict(names or {})
        self.palette: bytes | None = None
        self._wanted = {name: number for number, name in self.names.items()}
        self._by_colour: dict[bytes, int] = {}
        self._by_label: dict[Key, int] = {}

    def free(self) -> int:
        """Take the lowest number that no object has.

        Raises:
            InputError: all 254 are taken.
        """
        number = next((i for i in range(1, VOID) if i not in self.ids), None)
        if number is None:
            raise InputError("the masks have more than 254 objects in all")
        self.ids.add(number)
        return number

    def of_file(self, file: MaskFile, others: Collection[int]) -> Mask:
        """Number the objects of a picture; `others` are those that other sources have on the same frame."""
        if file.is_white:
            return np.where(file.mask == 1, np.uint8(self._of_white(others)), file.mask)
        if not file.by_colour or not file.palette:
            for number in object_ids(file.mask):
                self._by_colour.setdefault(file.colour_of(number), number)
            self.palette = self.palette or file.palette
            return file.mask
        table = np.zeros(256, np.uint8)
        for number in object_ids(file.mask):
            colour = file.colour_of(number)
            if colour not in self._by_colour:
                self._by_colour[colour] = self.free()
            table[number] = self._by_colour[colour]
        palette = bytearray(self.palette or file.palette)
        for colour, number in self._by_colour.items():
            palette[3 * number : 3 * number + 3] = colour
        self.palette = bytes(palette)
        return table[file.mask]

    def _of_white(self, others: Collection[int]) -> int:
        """The object that is white in another mask, else object 1; of several white ones on a frame each is another."""
        number = self._by_colour.setdefault(WHITE, 1)
        copies = 0
        while number in others:
            copies += 1
            key = WHITE + bytes([copies])
            if key not in self._by_colour:
                self._by_colour[key] = self.free()
            number = self._by_colour[key]
        return number

    def of_labels(self, labels: Labels) -> Mask:
        """Number the objects of an annotated frame by their labels and tracks.

        Raises:
            InputError: names were given, and a label is not among them.
        """
        unknown = sorted({key[0] for key in labels.keys} - self._wanted.keys()) if self._wanted else []
        if unknown:
            given = ", ".join(f"{number}={name}" for name, number in self._wanted.items())
            listed = ", ".join(map(repr, unknown))
            raise InputError(f"{labels.source} has labels that --names does not list: {listed}", f"--names has {given}")
        table = np.zeros(256, np.uint8)
        for place, key in enumerate(labels.keys, start=1):
            if key not in self._by_label:
                self._by_label[key] = self._of_label(*key)
                self.names.setdefault(self._by_label[key], key[0])
            table[place] = self._by_label[key]
        return table[labels.unpack()]

    def _of_label(self, label: str, track: int | None, alike: int) -> int:
        taken = self._by_label.values()
        for number in (self._wanted.get(label), track):
            if number is not None and 1 <= number < VOID and number not in taken and not alike:
                self.ids.add(number)
                return number
        return self.free()
