"""docs/promises.md names tests and drills that are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_proof_of_a_promise_exists() -> None:
    text = (ROOT / "docs" / "promises.md").read_text("utf-8")
    rows = [line for line in text.split("## What was run")[0].splitlines() if line.startswith("| ")]
    promises = [row for row in rows if not row.startswith("| promise |")]
    assert promises
    for row in promises:
        proofs = re.findall(r"`(tests/[^`]+)`", row)
        assert proofs, row
        assert all((ROOT / proof).is_file() for proof in proofs), row
