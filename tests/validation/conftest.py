"""Frames for the tests of validation: valid by default, broken on request."""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import pandas as pd
import pytest

Frames = Callable[..., pd.DataFrame]


def _frame(
    valid: dict[str, list[Any]], changed: dict[str, Sequence[Any]]
) -> pd.DataFrame:
    columns = valid | changed
    return pd.DataFrame(
        {name: pd.Series(list(v), dtype=object) for name, v in columns.items()}
    )


@pytest.fixture
def make_rows() -> Frames:
    """Create source rows that are valid, except for the given columns."""

    def make(**columns: Sequence[Any]) -> pd.DataFrame:
        size = len(next(iter(columns.values()))) if columns else 3
        valid: dict[str, list[Any]] = {
            "source_id": [str(number) for number in range(1, size + 1)],
            "enterprise_name": [f"Ångström & Co {n}" for n in range(size)],
            "created_date": ["2024-01-05 12:34:56.789+00"] * size,
            "updated_date": ["2024-02-29 00:00:00+00"] * size,
        }
        return _frame(valid, columns)

    return make


@pytest.fixture
def make_items() -> Frames:
    """Create items that are valid, except for the given attributes."""

    def make(**columns: Sequence[Any]) -> pd.DataFrame:
        size = len(next(iter(columns.values()))) if columns else 3
        ids = [str(UUID(int=number + 2**100)) for number in range(size)]
        names = list(columns.get("enterprise_name", ["Ångström & Co"] * size))
        created = list(columns.get("created_date", ["2024-01-05T12:34:56.789Z"] * size))
        updated = list(columns.get("updated_date", ["2024-02-29T00:00:00.000Z"] * size))
        valid: dict[str, list[Any]] = {
            "PK": [f"ENT#{each}" for each in columns.get("id", ids)],
            "SK": ["METADATA"] * size,
            "id": ids,
            "enterprise_name": names,
            "name": names,
            "created_date": created,
            "createdAt": created,
            "updated_date": updated,
            "updatedAt": updated,
            "entity_type": ["enterprise"] * size,
        }
        return _frame(valid, columns)

    return make
