"""Bodies of requests, as DynamoDB reads them."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from flows.stores.dynamodb.wire import encode_puts, to_wire

# Characters that may be misread as the end of a value or of its template.
TEXTS = st.text(st.sampled_from(list('",\\%b]}:é\n\x00🚀\ud800a')))
VALUES = st.one_of(TEXTS, st.booleans(), st.integers(), st.just({"SS": ["x", "y"]}))


@given(st.lists(st.tuples(TEXTS, TEXTS, VALUES), max_size=5))
def test_items_are_encoded_as_they_are(rows: list[tuple[Any, ...]]) -> None:
    """Each item must arrive with exactly its own values, for any content."""
    names = ("PK", "name", "other")
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}

    puts = [json.loads(put) for put in encode_puts(columns)]

    items = [dict(zip(names, row, strict=True)) for row in rows]
    assert puts == [{"PutRequest": {"Item": to_wire(item)}} for item in items]
