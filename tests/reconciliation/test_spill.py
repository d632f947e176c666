"""Buckets: each row comes back once, beside rows with the same key."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from flows.reconciliation import spill
from flows.reconciliation.spill import BUCKETS, Buckets, pair

SCHEMA = pa.schema([("key", pa.large_binary()), ("value", pa.int64())])


def part(*numbers: int) -> pa.Table:
    """Create rows of some numbers."""
    keys = [f"ENT#{number}".encode() for number in numbers]
    return pa.table([keys, list(numbers)], schema=SCHEMA)


@pytest.mark.parametrize(("kept", "parts"), [(1_000, 1), (100, BUCKETS), (1, BUCKETS)])
def test_what_has_the_same_key_meets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int, parts: int
) -> None:
    """In memory or in files, no row may be lost, duplicated, or split from its pair."""
    monkeypatch.setattr(spill, "KEPT_ROWS", kept)
    left, right = Counter[int](), Counter[int]()
    with Buckets(tmp_path, "a", SCHEMA) as a, Buckets(tmp_path, "b", SCHEMA) as b:
        for start in range(0, 300, 30):
            a.add(part(*range(start, start + 30)))
        b.add(part(*range(200, 202), 200))
        pairs = list(pair(a, b))
    for one, other in pairs:
        ours, theirs = one["value"].to_pylist(), other["value"].to_pylist()
        left.update(ours)
        right.update(theirs)
        assert set(theirs) <= set(ours)

    assert len(pairs) == parts
    assert left == Counter(range(300))
    assert right == Counter([200, 200, 201])
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_one_empty_pair(tmp_path: Path) -> None:
    """Two empty sides must be compared, in memory."""
    with Buckets(tmp_path, "a", SCHEMA) as a, Buckets(tmp_path, "b", SCHEMA) as b:
        ((one, other),) = pair(a, b)

    assert (len(one), len(other)) == (0, 0)
    assert one.schema == SCHEMA


def test_a_folder_may_have_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A temporary folder below one named ~ or x: must be used as it is."""
    monkeypatch.setattr(spill, "KEPT_ROWS", 1)
    monkeypatch.chdir(tmp_path)
    folder = Path("~", "x:1")
    folder.mkdir(parents=True)

    with Buckets(folder, "a", SCHEMA) as a, Buckets(folder, "b", SCHEMA) as b:
        a.add(part(1))
        assert len(list(folder.iterdir())) == BUCKETS
        assert sum(len(one) for one, _ in pair(a, b)) == 1
