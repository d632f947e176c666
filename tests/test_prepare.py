"""The preparation of rows: which of them refer to rows in quarantine."""

from dataclasses import replace

import pandas as pd
import pytest

from flows.models import REFERENCE_MISSING, Field, IdKind, Reference
from flows.prepare import flag_quarantined
from tests.support.source_table import make_source_table

OWNER = "3500a20a-fa32-5543-842f-da54bef06c63"


@pytest.mark.parametrize(
    ("id_kind", "quarantined", "texts", "flags"),
    [
        ("uuid", OWNER, [OWNER, f"{{{OWNER.upper()}}}", "nobody", None], [1, 1, 0, 0]),
        ("text", OWNER.upper(), [OWNER, "nobody", None], [1, 0, 0]),
        ("integer", "7", ["7", "77", None], [1, 0, 0]),
    ],
)
def test_a_row_refers_to_one_in_quarantine_by_any_spelling(
    id_kind: IdKind, quarantined: str, texts: list[str | None], flags: list[int]
) -> None:
    """Two spellings of a UUID are one row, and NULL refers to none."""
    reference = Reference("owner", "public", "owners", "id", id_kind)
    field = Field("owner", "owner", "text", reference=reference)
    source = replace(make_source_table(), fields=(field,))
    flag = REFERENCE_MISSING + "owner"
    rows = pd.DataFrame({"owner": pd.Series(texts, dtype=object), flag: False})

    flag_quarantined(rows, source, {"owner": {quarantined}})

    assert rows[flag].tolist() == [bool(one) for one in flags]
