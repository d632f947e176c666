"""The source's suite on the PostgreSQL table itself, by Great Expectations' SQL engine.

The same expectations judge the same facts, which are columns of a query here. The
results are counts for a whole table; no rows are transferred. Rules that need another
row's derived id are checked in frames only, since no query can evaluate them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from sqlalchemy import make_url

from validation import contract
from validation.contract import Reason
from validation.report import ExpectationError, merge_results
from validation.suite_runner import current_context

if TYPE_CHECKING:
    from collections.abc import Mapping

# Each is true if the value is missing, as the facts of a frame are.
FACTS: Final = {
    "id_present": "{id}::text <> '' AND {id} IS NOT NULL",
    "id_unique": "{id} IS NULL OR count(*) OVER (PARTITION BY {id}) = 1",
    "name_present": "{name} IS NOT NULL",
    "name_visible": "{visible}",
    "created_date_finite": "isfinite({created})",
    "created_date_in_range": "{created_in_range}",
    "updated_date_finite": "isfinite({updated})",
    "updated_date_in_range": "{updated_in_range}",
    "timestamp_present": "{created} IS NOT NULL OR {updated} IS NOT NULL",
    "name_trim": "NOT ({visible}) OR NOT {text} ~ '{padded}'",
    "name_printable": "NOT ({visible}) OR NOT {text} ~ '{control}'",
    "name_short": "NOT ({visible}) OR length({text}) <= {usual}",
    "name_unique": "NOT ({visible}) OR count(*) OVER (PARTITION BY {text}) = 1",
    "created_date_past": "{created} <= now() OR NOT ({created_plain})",
    "updated_date_past": "{updated} <= now() OR NOT ({updated_plain})",
    "dates_ordered": "{updated} >= {created} OR NOT ({created_plain})"
    " OR NOT ({updated_plain})",
}
_BLANKS: Final = "".join(rf"\u{ord(blank):04X}" for blank in contract.BLANKS)
_PADDED: Final = f"^[{_BLANKS}]|[{_BLANKS}]$"
_CONTROL: Final = r"[\u0001-\u001F\u007F-\u009F]"
_IN_RANGE: Final = "{0} >= '0001-01-01 00:00+00' AND {0} < '10000-01-01 00:00+00'"


def validate_table(
    url: str, table: str, columns: Mapping[str, str], *, last_rows: int | None = None
) -> dict[str, Any]:
    """Judge a whole table by the source's suite, in PostgreSQL; return the counts.

    Args:
        url: The URL of the database, `postgresql+psycopg2://`, in UTF-8.
        table: The table's name, quoted if necessary.
        columns: The columns for `id`, `name`, `created` and `updated`, quoted if
            necessary; the last two with time zone.
        last_rows: The number of rows in the last run, for comparison.

    Raises:
        ExpectationError: An expectation could not be evaluated.
    """
    from validation.suites import source_suite, table_suite

    suite = source_suite()
    rules = [rule for rule in suite.expectations if _column(rule) in FACTS]
    if last_rows is not None:
        rules += table_suite(last_rows=last_rows).expectations
    suite.expectations = rules
    with current_context() as context:
        name = f"source-{uuid4().hex}"
        source = context.data_sources.add_postgres(
            name, connection_string=_with_host(url)
        )
        try:
            query = facts_query(table, columns)
            asset = source.add_query_asset(name="facts", query=query)
            batch = asset.add_batch_definition_whole_table("all").get_batch()
            found = batch.validate(suite, result_format="BASIC").results
        finally:
            context.data_sources.delete(name)
    return _merged(found)


def facts_query(table: str, columns: Mapping[str, str]) -> str:
    """Return the query that selects the facts of each row of the table."""
    created, updated = columns["created"], columns["updated"]
    text = f'{columns["name"]}::text COLLATE "C"'
    plain = "isfinite({0}) AND " + _IN_RANGE
    values = {
        **columns,
        "text": text,
        "visible": f"{text} ~ '{contract.SQL_VISIBLE_CHARACTER_PATTERN}'",
        "padded": _PADDED,
        "control": _CONTROL,
        "usual": contract.USUAL_NAME_CHARACTERS,
        "created_in_range": f"NOT isfinite({created}) OR {_IN_RANGE.format(created)}",
        "updated_in_range": f"NOT isfinite({updated}) OR {_IN_RANGE.format(updated)}",
        "created_plain": plain.format(created),
        "updated_plain": plain.format(updated),
    }
    facts = [
        f"coalesce({sql.format(**values)}, true) AS {fact}"
        for fact, sql in FACTS.items()
    ]
    return f"SELECT {', '.join(facts)} FROM {table}"  # noqa: S608 - names are the caller's


def _with_host(url: str) -> str:
    """Add a host to the URL of a socket folder: Great Expectations requires one."""
    made = make_url(url)
    made = made if made.host else made.set(host="localhost")
    return made.render_as_string(hide_password=False)


def _column(expectation: Any) -> str:
    return str(expectation.column)


def _merged(results: list[Any]) -> dict[str, Any]:
    merged = merge_results([])
    for result in results:
        expectation: Any = result.expectation_config.to_domain_obj()
        counts = result.result
        reason = Reason(expectation.meta["reason"])
        if reason is Reason.ROW_COUNT_UNUSUAL and "observed_value" in counts:
            broken = 0 if result.success else 1
        elif "unexpected_count" in counts:
            merged["rows"] = counts["element_count"]
            broken = int(counts["unexpected_count"])
        else:
            raise ExpectationError(
                contract.SOURCE_SUITE,
                type(expectation).__name__,
                "no count was returned",
            )
        if broken:
            critical = reason.severity is contract.Severity.CRITICAL
            of = merged["by_reason" if critical else "warnings"]
            of[reason.value] = broken
    del merged["examples"], merged["failed_rows"]
    return merged
