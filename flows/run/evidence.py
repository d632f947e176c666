"""What a report shows beside its proof: its circumstances, and items to check by hand.

None of it decides anything, so a store that refuses it never fails a run.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from hashlib import sha256
from uuid import UUID

from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.models import SourceTable
from flows.reconciliation.report import ReconciliationReport
from flows.reconciliation.source_rows import ALL_ROWS, Selection
from flows.reports.circumstances import Circumstances, describe_circumstances
from flows.reports.spot_checks import SpotCheck, show_item, show_row
from flows.run.deletions import own_attributes
from flows.run.keys import keys_of_rows
from flows.run.preflight import Stores
from flows.stores.dynamodb.wire import to_wire
from flows.stores.postgres.conditions import ID_TYPES, changed_since, meets
from flows.stores.postgres.server import attempting, describe_server, locate

SPOT_CHECKS = 3
# If none of so few rows is a matched one, fewer are checked.
NEXT_ROWS = 50
FIRST_IDS = sql.SQL("""
(SELECT {id}::text FROM {table} AS source WHERE {meets}
 ORDER BY source.{id} LIMIT 1) UNION ALL
(SELECT {id}::text FROM {table} AS source WHERE {meets}
 ORDER BY source.{id} DESC LIMIT 1)
""")
# The order is by source.id: a bare name would mean the output column, which is text.
NEXT_IDS = sql.SQL("""
SELECT {id}::text FROM {table} AS source
WHERE {id} {beyond} {point}::{kind} AND {changed} ORDER BY source.{id} LIMIT {rows}
""")
READ_ROW = sql.SQL("SELECT {columns} FROM {table} WHERE {id} = ({value})::{kind}")


def describe_report(
    stores: Stores, begun: float, operator: str | None, *, asking: bool = True
) -> Circumstances:
    """Describe the circumstances of a report that is made now.

    PostgreSQL is only asked if its session is known to answer.
    """
    connection = stores.connection
    return describe_circumstances(
        begun,
        operator,
        locate(connection),
        server=describe_server(connection) if asking else "",
        account=stores.account,
    )


def read_spot_checks(
    stores: Stores,
    report: ReconciliationReport,
    quarantined: Mapping[str, Collection[str]],
    selections: Mapping[str, Selection] | None = None,
) -> tuple[SpotCheck, ...]:
    """Read some matched rows of each entity and their items again.

    The name of the report chooses them, so that they can be chosen again. A sample has
    none, since its rows are random. If a store refuses, there are fewer or none.
    *quarantined* has source ids by entity, and *selections* the rows of the comparison.
    """
    if report.sample is not None or not report.counts["matched"]:
        return ()
    found: list[SpotCheck] = []
    with attempting(stores.connection):
        for source in stores.sources:
            entity = source.entity
            left_out = {d.source_id for d in report.found if d.entity == entity}
            left_out |= set(quarantined.get(entity, ()))
            selection = (selections or {}).get(entity, ALL_ROWS)
            part = stores.of(source)
            chosen = _choose_rows(part, report.name, left_out, selection)
            found += _read_pairs(part, chosen)
    return tuple(found)


def _choose_rows(
    stores: Stores,
    name: str,
    left_out: Collection[str | None],
    selection: Selection,
) -> list[str]:
    """Return the ids of some rows: those that follow points between first and last id.

    Each takes some milliseconds, whatever the number of rows.
    """
    source, chosen = stores.source, list[str]()
    if selection.ids is not None:
        return _pick([one for one in selection.ids if one not in left_out], name)
    with stores.connection.cursor() as cursor:
        cursor.execute(_for_source(FIRST_IDS, source, meets=meets(source)))
        bounds = [one for (one,) in cursor.fetchall()]
    for point in _points_between(bounds, source, name):
        near = _ids_near(stores, point, selection)
        free = [one for one in near if one not in left_out]
        if len(near) < NEXT_ROWS:
            # These are all rows.
            return _pick(free, name)
        chosen += _pick([one for one in free if one not in chosen], point)[:1]
    return chosen


def _ids_near(stores: Stores, point: str, selection: Selection) -> list[str]:
    """Return the ids that follow a point, and if they are too few, the first ones."""
    found: list[str] = []
    with stores.connection.cursor() as cursor:
        for beyond in (">=", "<"):
            query = _for_source(
                NEXT_IDS,
                stores.source,
                beyond=sql.SQL(beyond),
                point=sql.Literal(point),
                changed=changed_since(stores.source, selection.since),
                rows=sql.Literal(NEXT_ROWS - len(found)),
            )
            cursor.execute(query)
            found += [one for (one,) in cursor.fetchall()]
            if len(found) == NEXT_ROWS:
                break
    return found


def _pick(ids: Sequence[str], name: str) -> list[str]:
    """Return some of these ids; the name decides which."""
    return sorted(ids, key=lambda one: _number_of(f"{name} {one}"))[:SPOT_CHECKS]


def _points_between(
    bounds: Sequence[str], source: SourceTable, name: str
) -> Iterator[str]:
    """Yield ids, of rows or not, between the first and the last id of the source."""
    integer = source.id_kind == "integer"
    numbers = [int(one) if integer else UUID(one).int for one in bounds]
    low, high = min(numbers, default=0), max(numbers, default=0)
    for number in range(SPOT_CHECKS):
        point = low + (high - low) * _number_of(f"{name} {number}") // 2**256
        yield str(point if integer else UUID(int=point))


def _number_of(text: str) -> int:
    return int.from_bytes(sha256(text.encode()).digest())


def _read_pairs(stores: Stores, source_ids: Sequence[str]) -> Iterator[SpotCheck]:
    """Read rows and their items; yield those that are there."""
    source = stores.source
    keys = keys_of_rows(stores, source_ids)
    items = stores.table.read([key for _, key in keys.values()])
    own = own_attributes(stores, source)
    for source_id, (identity, key) in keys.items():
        query = _query_row(stores.connection, source, source_id)
        with stores.connection.cursor() as cursor:
            cursor.execute(query)
            row = cursor.fetchone()
        item = items.get(key)
        if row is not None and item is not None:
            yield SpotCheck(
                source_id=source_id,
                id=identity,
                row=dict(zip(source.attributes, row, strict=True)),
                item=to_wire({name: item[name] for name in own if name in item}),
                attributes=source.attributes,
                commands=(
                    show_row(locate(stores.connection), query),
                    show_item(stores.target, key),
                ),
            )


def _query_row(connection: Connection, source: SourceTable, source_id: str) -> str:
    """Return the query of one row, as it is executed and as people can repeat it."""
    columns = [sql.SQL("{}::text").format(sql.Identifier(c)) for c in source.attributes]
    query = _for_source(
        READ_ROW,
        source,
        columns=sql.SQL(", ").join(columns),
        # Without quotes, which a shell would double, where it needs none.
        value=sql.Literal(int(source_id) if source.id_kind == "integer" else source_id),
    )
    return query.as_string(connection)


def _for_source(
    template: sql.SQL, source: SourceTable, **more: sql.Composable
) -> sql.Composed:
    return template.format(
        id=sql.Identifier(source.id_column),
        kind=sql.SQL(ID_TYPES[source.id_kind]),
        table=sql.Identifier(source.schema, source.table),
        **more,
    )
