"""Damage a file in many seeded ways and read it: the result is a result or an MgsegError, within time and memory.

    python tests/drills/mutate.py KIND FILE [--count 1000] [--seed 0]

KIND: mask (PNG), picture, video, weights, meta (FILE is a dataset's meta.json, in its place). Damage goes past the
checksums of PNG and zip, which are made anew. Prints how many files were read and refused; any other end is a failure
that names its seed. Run alone, in a process that may die.
"""

import argparse
import faulthandler
import json
import random
import resource
import struct
import tempfile
import traceback
import warnings
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from mgseg.errors import MgsegError

SECONDS = 60  # for one file, on a busy machine
GROWTH = 2**30  # bytes of address space over what is used before the first file: more is memory without bound
NUMBERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def damage(data: bytes, rng: random.Random) -> bytes:
    """Change bytes in one to six places: flip, set, cut, repeat, insert, write a number at the limits."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(out) + 1)
        span = min(len(out) - at, rng.choice((1, 2, 4, 16, 200)))
        match rng.randrange(8):
            case 0 if at < len(out):
                out[at] ^= 1 << rng.randrange(8)
            case 1 | 2:
                out[at : at + span] = rng.randbytes(span)
            case 3:
                del out[at : at + span]
            case 4:
                out[at:at] = out[at : at + span]
            case 5:
                out[at:at] = rng.randbytes(span)
            case 6:
                out[at : at + 4] = struct.pack(rng.choice("<>") + "I", rng.choice(NUMBERS))
            case 7 if rng.random() < 0.3:
                del out[at:]
    return bytes(out)


def damage_mask(data: bytes, rng: random.Random) -> bytes:
    """Damage a PNG's chunks before their checksums are taken; of the pixels, half the time the inflated ones."""
    if rng.random() < 0.2:
        return damage(data, rng)
    chunks = []
    at = 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunks.append([data[at + 4 : at + 8], data[at + 8 : at + 8 + length]])
        at += 12 + length
    for chunk in rng.sample(chunks, rng.randint(1, 2)):
        if chunk[0] == b"IDAT" and rng.random() < 0.5:
            inflated = zlib.decompressobj().decompress(chunk[1])
            chunk[1] = zlib.compress(damage(inflated, rng)) if inflated else chunk[1]
        elif rng.random() < 0.15:
            chunk[0] = rng.choice((b"IDAT", b"PLTE", b"tRNS", b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"acTL", b"fcTL"))
        else:
            chunk[1] = damage(chunk[1], rng)
    if rng.random() < 0.1:
        rng.shuffle(chunks)
    parts = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    return data[:8] + b"".join(parts)


def damage_weights(data: bytes, rng: random.Random) -> bytes:
    """Damage entries of the zip that torch writes, mostly its pickle, and zip them anew."""
    if rng.random() < 0.2:
        return damage(data, rng)
    with tempfile.TemporaryFile() as box:
        box.write(data)
        with zipfile.ZipFile(box) as source, tempfile.TemporaryFile() as target:
            names = source.namelist()
            chosen = next(n for n in names if n.endswith("data.pkl")) if rng.random() < 0.8 else rng.choice(names)
            with zipfile.ZipFile(target, "w") as new:
                for name in names:
                    entry = source.read(name)
                    new.writestr(name, damage(entry, rng) if name == chosen else entry)
            target.seek(0)
            return target.read()


def damage_meta(data: bytes, rng: random.Random) -> bytes:
    """Damage the JSON's text, or put another value in the place of one of its nodes."""
    if rng.random() < 0.2:
        return damage(data, rng)
    tree = json.loads(data)
    for _ in range(rng.randint(1, 3)):
        places: list[tuple[Any, Any]] = []

        def walk(node: Any, places: list[tuple[Any, Any]] = places) -> None:
            for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
                places.append((node, key))
                walk(node[key])

        walk(tree)
        if not places:
            break
        node, key = rng.choice(places)
        if isinstance(node, dict) and rng.random() < 0.4:
            odd_names = ("../x", "/etc", "", "\0", "\ud800", "x" * 999, "-1", "٣", "1" * 5000, ".", "a\nb", "300")
            node[rng.choice(odd_names)] = node.pop(key)
        else:
            node[key] = rng.choice((None, 1, -1.5, 1e999, True, "", "../x", "\ud800", [], {}, [[]], [None], {"a": {}}))
    return json.dumps(tree).encode()


def read_mask_file(path: Path) -> None:
    from mgseg.files.masks import read_index_map, read_mask
    from mgseg.files.pictures import read_picture

    problem: MgsegError | None = None
    for read in (read_index_map, read_picture, partial(read_mask, clean=True), read_mask):
        try:
            read(path)
        except MgsegError as error:
            problem = error
    if problem:
        raise problem


def read_picture_file(path: Path) -> None:
    from mgseg.files.pictures import read_picture

    read_picture(path)


def read_video(path: Path) -> None:
    from mgseg.files.video import probe, read_backward, read_frames

    probe(path)
    for _ in read_frames(path):
        pass
    for _ in read_backward(path, 0, 4):
        pass


def read_weights(path: Path) -> None:
    from mgseg.weights import load_network

    load_network(path)


def read_meta(path: Path) -> None:
    from mgseg.data.catalog import find_split, seen_categories

    split = find_split(str(path.parent.parent), path.parent.name, None)
    seen_categories(split)
    home = path.parent.resolve()
    for sequence in split.sequences:
        assert (home / "JPEGImages" / sequence.name).resolve().is_relative_to(home)
        assert all("/" not in name for name in sequence.saved)


KINDS: dict[str, tuple[Callable[[bytes, random.Random], bytes], Callable[[Path], None]]] = {
    "mask": (damage_mask, read_mask_file),
    "picture": (damage, read_picture_file),
    "video": (damage, read_video),
    "weights": (damage_weights, read_weights),
    "meta": (damage_meta, read_meta),
}


def try_all(kind: str, file: Path, seeds: range, deadline: Callable[[], None] | None = None) -> str:
    """Damage and read a file with each seed, and call `deadline` after each; returns the counts.

    Raises:
        AssertionError: something else than a result or an MgsegError came of it.
    """
    change, read = KINDS[kind]
    whole = file.read_bytes()
    num_read = 0
    failures: list[str] = []
    for seed in seeds:
        file.write_bytes(change(whole, random.Random(f"{kind} {seed}")))
        try:
            read(file)
            num_read += 1
        except MgsegError:
            pass
        except Exception:  # noqa: BLE001 what must not happen is what is looked for
            failures.append(f"seed {seed}\n{traceback.format_exc()}")
        if deadline:
            deadline()
    file.write_bytes(whole)
    assert not failures, f"{len(failures)} failed\n" + "\n".join(failures[:5])
    return f"{kind}: {len(seeds)} tried, {num_read} read, {len(seeds) - num_read} refused"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("file", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    KINDS[args.kind][1](args.file)  # loads what is needed, and shows that the file is good
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + GROWTH, used + GROWTH))
    deadline = partial(faulthandler.dump_traceback_later, SECONDS, exit=True)  # ends the process; begins anew each time
    deadline()
    print(try_all(args.kind, args.file, range(args.seed, args.seed + args.count), deadline))


if __name__ == "__main__":
    main()
