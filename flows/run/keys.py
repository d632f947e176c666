"""The ids and keys of the items that rows have now."""

from collections.abc import Sequence

import pyarrow as pa

from flows.models import Key, derive_ids, key_of
from flows.reconciliation.compare import as_rows
from flows.reconciliation.source_rows import Selection, copy_rows
from flows.run.preflight import Stores


def keys_of_rows(
    stores: Stores, source_ids: Sequence[str]
) -> dict[str, tuple[str, Key]]:
    """Return the id and the key of each row's item, by source id, for one source.

    Unless ids alone show keys, the rows are read; those that are gone, or cannot be
    items, are left out.
    """
    source = stores.source
    if source.has_keys_of_ids:
        ids = derive_ids(
            source_ids,
            source.id_kind,
            source.namespace(stores.settings.id_namespace),
            derived=source.derives_ids,
        )
        pairs = zip(source_ids, ids, strict=True)
        return {one: (key, source.key_of_id(key)) for one, key in pairs}
    found: list[pa.Table] = []
    selection = Selection(ids=source_ids)
    copy_rows(stores.connection, source, found.append, selection)
    expected = stores.expected_items(source)
    keys: dict[str, tuple[str, Key]] = {}
    for row in (row for part in found for row in as_rows(part)):
        item, impossible = expected.item(row)
        if not impossible:
            keys[str(row[0])] = str(item["id"]), key_of(item)
    return keys
