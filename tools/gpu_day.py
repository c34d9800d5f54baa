"""Training on a borrowed GPU machine without a network: files are copied there and back in pieces of limited size.

    python tools/gpu_day.py pack OUT SOURCE... [--mib 60] [--shorter-side 480] [--quality 90]
    python tools/gpu_day.py unpack SHARDS DEST
    python tools/gpu_day.py train MINUTES RUN -- mgseg train ... --out RUN
    python tools/gpu_day.py cut FILE OUT [--mib 15] [--first 0] [--count 0]
    python tools/gpu_day.py join PIECES DEST

`pack` writes datasets as tar files of limited size (shards), with their hashes in manifest.json. From a folder with
lists in ImageSets it takes only the sequences of train.txt. `unpack` unpacks the shards that have arrived and names the
missing ones. `train` runs the command with --resume for some minutes of its schedule, then lets it save. `cut` splits a
file into pieces, `join` puts the pieces together, both with hashes. docs/gpu-day.md shows all steps in order.
"""

import argparse
import hashlib
import json
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

MANIFEST = "manifest.json"
MIB = 2**20
GRACE_SECONDS = 120  # for a stopped run to end its step and save
FRAMES = {".jpg", ".jpeg"}


class KitError(Exception):
    """An error that the user can fix."""


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def members(source: Path) -> Iterator[Path]:
    """Yield the files of a dataset, in order; with lists, only train.txt and its sequences."""
    if not source.is_dir():
        raise KitError(f"{source} is not a folder")
    lists = sorted((source / "ImageSets").glob("*/train.txt"))
    if not lists:
        yield from sorted(path for path in source.rglob("*") if path.is_file())
        return
    yield from lists
    names = sorted({name for path in lists for name in path.read_text(encoding="utf-8").split()})
    for kind in ("JPEGImages", "Annotations"):
        for name in names:
            folders = sorted(folder for folder in (source / kind).glob(f"*/{name}") if folder.is_dir())
            if not folders:
                raise KitError(f"{source}: train.txt names {name}, which has no folder in {kind}/*/")
            yield from sorted(path for folder in folders for path in folder.iterdir())


def content_of(path: Path, shorter_side: int, quality: int) -> bytes:
    """Return the file's content. A JPEG above the size or quality is re-encoded if that saves bytes."""
    content = path.read_bytes()
    if path.suffix.lower() not in FRAMES or not quality:
        return content
    with Image.open(path) as image:
        factor = min(1.0, shorter_side / min(image.size)) if shorter_side else 1.0
        size = round(image.width * factor), round(image.height * factor)
        written = BytesIO()
        image.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(written, "JPEG", quality=quality)
    return min(content, written.getvalue(), key=len) if factor == 1 else written.getvalue()


def pack(out: Path, sources: list[Path], mib: int, shorter_side: int, quality: int) -> dict[str, Any]:
    """Write the shards and their manifest."""
    if (out / MANIFEST).exists():
        raise KitError(f"{out} already contains shards: choose another folder, or delete them")
    names = [source.resolve().name for source in sources]
    if len(set(names)) < len(names):
        raise KitError(f"two sources have the same name: {', '.join(sorted(names))}")
    out.mkdir(parents=True, exist_ok=True)
    shards: list[dict[str, Any]] = []
    waiting: list[tuple[str, bytes]] = []

    def close() -> None:
        if not waiting:
            return
        path = out / f"shard-{len(shards):03d}.tar"
        with tarfile.open(path, "w") as tar:
            for name, content in waiting:
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, BytesIO(content))
        entry_of = {"name": path.name, "files": len(waiting), "bytes": path.stat().st_size}
        shards.append({**entry_of, "sha256": sha256(path.read_bytes())})
        waiting.clear()

    room = mib * MIB - 20 * 1024  # the end of a tar file is padded to 10 KiB
    used = 0
    for source, name in zip(sources, names, strict=True):
        for path in members(source):
            content = content_of(path, shorter_side, quality)
            needed = 2048 + len(content)  # header, padding, and a long name's own header
            if needed > room:
                raise KitError(f"{path} alone is larger than a shard of {mib} MiB: give a larger --mib")
            if used + needed > room:
                close()
                used = 0
            waiting.append((f"{name}/{path.relative_to(source).as_posix()}", content))
            used += needed
    close()
    manifest = {"shards": shards}
    (out / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise KitError(f"{path} is missing: copy it in every transfer")
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return manifest


def unpack(folder: Path, dest: Path) -> list[str]:
    """Unpack the shards that have arrived; return the names of the missing ones."""
    missing = []
    for shard in read_manifest(folder)["shards"]:
        path, done = folder / shard["name"], dest / ".done" / shard["sha256"]
        if done.exists():
            continue
        if not path.is_file():
            missing.append(shard["name"])
            continue
        if sha256(path.read_bytes()) != shard["sha256"]:
            raise KitError(f"{path} is damaged (its hash differs from the manifest): copy it again")
        dest.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path) as tar:
            # Python before 3.11.4 has no filters; the hash in the manifest was checked above.
            tar.extractall(dest, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        done.parent.mkdir(exist_ok=True)
        done.touch()
    return missing


def train(minutes: float, run: Path, command: list[str]) -> bool:
    """Run the command with --resume for some minutes; returns whether its schedule is finished."""
    if "--resume" not in command:
        command = [*command, "--resume"]
    process = subprocess.Popen(command)
    try:
        process.wait(60 * minutes)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise KitError(f"the run did not stop within {GRACE_SECONDS} s; its newest checkpoint is kept") from error
        return process.returncode == 0  # it was at its end just then
    except KeyboardInterrupt:
        process.wait()
        raise
    if process.returncode or not (run / "weights.pth").is_file():
        raise KitError(f"the command ended by itself with {process.returncode}, without {run / 'weights.pth'}")
    return True


def cut(path: Path, out: Path, mib: int, first: int, count: int) -> dict[str, Any]:
    """Write a file's pieces (`count` from `first` on; 0: all) and the manifest of all of them."""
    if not path.is_file():
        raise KitError(f"{path} does not exist")
    content = path.read_bytes()
    parts = [content[start : start + mib * MIB] for start in range(0, max(1, len(content)), mib * MIB)]
    pieces = [{"name": f"piece-{number:03d}", "sha256": sha256(part)} for number, part in enumerate(parts)]
    out.mkdir(parents=True, exist_ok=True)
    for piece, part in list(zip(pieces, parts, strict=True))[first : first + count if count else None]:
        (out / piece["name"]).write_bytes(part)
    manifest = {"file": path.name, "sha256": sha256(content), "pieces": pieces}
    (out / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest


def join(folders: list[Path], dest: Path) -> Path:
    """Join the pieces of a file from one or more folders; pieces of another file are found by their hash."""
    manifest = read_manifest(folders[0])
    found: list[bytes] = []
    for piece in manifest["pieces"]:
        candidates = [folder / piece["name"] for folder in folders if (folder / piece["name"]).is_file()]
        whole = next((part for path in candidates if sha256(part := path.read_bytes()) == piece["sha256"]), None)
        if whole is None:
            state = "is damaged or of another file" if candidates else "is missing"
            raise KitError(f"{piece['name']} of {manifest['file']} {state}")
        found.append(whole)
    content = b"".join(found)
    if sha256(content) != manifest["sha256"]:
        raise KitError(f"the joined pieces are not {manifest['file']}: the manifest is damaged")
    path = dest / str(manifest["file"])
    dest.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("out", type=Path)
    packing.add_argument("sources", type=Path, nargs="+")
    packing.add_argument("--mib", type=int, default=60)
    packing.add_argument("--shorter-side", type=int, default=480)
    packing.add_argument("--quality", type=int, default=90, help="JPEG quality of frames; 0 keeps the files unchanged")
    unpacking = commands.add_parser("unpack")
    unpacking.add_argument("shards", type=Path)
    unpacking.add_argument("dest", type=Path)
    training = commands.add_parser("train")
    training.add_argument("minutes", type=float)
    training.add_argument("run", type=Path)
    training.add_argument("rest", nargs=argparse.REMAINDER)
    cutting = commands.add_parser("cut")
    cutting.add_argument("file", type=Path)
    cutting.add_argument("out", type=Path)
    cutting.add_argument("--mib", type=int, default=15)
    cutting.add_argument("--first", type=int, default=0)
    cutting.add_argument("--count", type=int, default=0, help="pieces to write; 0: all")
    joining = commands.add_parser("join")
    joining.add_argument(
        "pieces", type=Path, nargs="+", help="folders of pieces; the manifest of the first one is used"
    )
    joining.add_argument("dest", type=Path)
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    asked = parse(arguments)
    if asked.command == "pack":
        shards = pack(asked.out, asked.sources, asked.mib, asked.shorter_side, asked.quality)["shards"]
        print(f"{len(shards)} shards, {sum(shard['bytes'] for shard in shards) / MIB:.0f} MiB")
    elif asked.command == "unpack":
        missing = unpack(asked.shards, asked.dest)
        print(f"missing: {', '.join(missing)}" if missing else "complete")
    elif asked.command == "train":
        done = train(asked.minutes, asked.run, [part for part in asked.rest if part != "--"])
        print("done" if done else "to be continued: repeat the same command")
    elif asked.command == "cut":
        pieces = cut(asked.file, asked.out, asked.mib, asked.first, asked.count)["pieces"]
        print(f"{len(pieces)} pieces in all")
    else:
        print(join(asked.pieces, asked.dest))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KitError as error:
        sys.exit(f"error: {error}")
