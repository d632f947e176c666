"""The source's suite on the PostgreSQL table itself, by Great Expectations' SQL engine.

The same expectations judge the same facts, which are columns of a query here. The
results are counts for a whole table; no rows are transferred. Rules that need another
row's derived id or key, a row of another table, or the elements of a list, a set or a
document are checked in frames only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from sqlalchemy import make_url

from validation import contract
from validation.column_sql import mapped_facts
from validation.contract import Reason, Severity
from validation.report import ExpectationError, merge_results
from validation.rules import name_column
from validation.subject import ENTERPRISES, Subject
from validation.suite_runner import current_context

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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


def validate_table(  # noqa: PLR0913 - a table, its rows and its subject
    url: str,
    table: str,
    columns: Mapping[str, str],
    *,
    last_rows: int | None = None,
    subject: Subject = ENTERPRISES,
    where: str | None = None,
) -> dict[str, Any]:
    """Judge a whole table by its subject's suite, in PostgreSQL; return the counts.

    Args:
        url: The URL of the database, `postgresql+psycopg2://`, in UTF-8.
        table: The table's name, quoted if necessary.
        columns: The columns for `id`, `name`, `created` and `updated`, quoted if
            necessary; the last two with time zone. For a subject with mapped columns
            those of `id`, of each name, and of `created_date` and `updated_date`;
            times with time zone.
        last_rows: The number of rows in the last run, for comparison.
        subject: The entity of the rows, and the rules of its columns.
        where: The condition in SQL that the entity's rows meet. As in a column, a colon
            before a word would be a parameter, except in a cast.

    Raises:
        ExpectationError: An expectation could not be evaluated.
        InputError: A bound of a rule cannot be read.
    """
    from validation.suites import source_suite, table_suite

    suite = source_suite(subject)
    rules = list(_judged_rules(suite.expectations, columns, subject))
    if last_rows is not None:
        rules += table_suite(last_rows=last_rows).expectations
    suite.expectations = rules
    with current_context() as context:
        name = f"source-{uuid4().hex}"
        source = context.data_sources.add_postgres(
            name, connection_string=_with_host(url)
        )
        try:
            query = facts_query(table, columns, subject, where=where)
            asset = source.add_query_asset(name="facts", query=query)
            batch = asset.add_batch_definition_whole_table("all").get_batch()
            found = batch.validate(suite, result_format="BASIC").results
        finally:
            context.data_sources.delete(name)
    return _merged(found, suite.name)


def facts_query(
    table: str,
    columns: Mapping[str, str],
    subject: Subject = ENTERPRISES,
    *,
    where: str | None = None,
) -> str:
    """Return the query that selects the facts of each row of the table.

    Raises:
        InputError: A bound of a rule cannot be read.
    """
    values = _sql_values(columns, subject)
    facts = [
        f"coalesce({sql.format(**values)}, true) AS {fact}"
        for fact, sql in _facts_of(subject).items()
    ]
    mapped = mapped_facts(_named(columns, subject), subject)
    facts += [
        f"coalesce({sql}, true) AS {_alias(number)}"
        for number, (_, sql) in enumerate(mapped)
    ]
    condition = f" WHERE ({where})" if where else ""
    return f"SELECT {', '.join(facts)} FROM {table}{condition}"  # noqa: S608 - names are the caller's


def _facts_of(subject: Subject) -> dict[str, str]:
    """Return the facts of the contract that a subject has, as templates of SQL."""
    name = name_column(subject)
    needs = {
        "name_present": name is not None and name.required,
        "name": name is not None,
        "created": subject.created,
        "updated": subject.updated,
        "timestamp": subject.created or subject.updated,
        "dates": subject.created and subject.updated,
    }
    facts = {
        fact: sql
        for fact, sql in FACTS.items()
        if needs.get(fact, needs.get(fact.partition("_")[0], True))
    }
    if subject.created is not subject.updated:
        role = "created" if subject.created else "updated"
        facts["timestamp_present"] = f"{{{role}}} IS NOT NULL"
    return facts


def _sql_values(columns: Mapping[str, str], subject: Subject) -> dict[str, Any]:
    values: dict[str, Any] = {
        "id": columns["id"],
        "padded": _PADDED,
        "control": _CONTROL,
        "usual": contract.USUAL_NAME_CHARACTERS,
    }
    if name := name_column(subject):
        values["name"] = _named(columns, subject)[name.name]
        text = f'{values["name"]}::text COLLATE "C"'
        values["text"] = text
        visible = contract.SQL_VISIBLE_CHARACTER_PATTERN
        values["visible"] = f"{text} ~ '{visible}'"
    roles = {"created": subject.created, "updated": subject.updated}
    for role in (role for role, there in roles.items() if there):
        value = columns.get(f"{role}_date") or columns[role]
        years = _IN_RANGE.format(value)
        values[role] = value
        values[f"{role}_in_range"] = f"NOT isfinite({value}) OR {years}"
        values[f"{role}_plain"] = f"isfinite({value}) AND {years}"
    return values


def _named(columns: Mapping[str, str], subject: Subject) -> dict[str, str]:
    """Return the SQL of each column of a subject; its name may be called `name`."""
    found = dict(columns)
    if (name := name_column(subject)) and name.name not in columns:
        found[name.name] = columns["name"]
    return found


def _judged_rules(
    expectations: list[Any], columns: Mapping[str, str], subject: Subject
) -> Iterator[Any]:
    """Yield the expectations whose facts the query has, by its names for them."""
    mapped = mapped_facts(_named(columns, subject), subject)
    aliases = {rule.fact: _alias(number) for number, (rule, _) in enumerate(mapped)}
    for expectation in expectations:
        column = str(expectation.column)
        expectation.column = aliases.get(column, column)
        if column in FACTS or column in aliases:
            yield expectation


def _alias(number: int) -> str:
    # PostgreSQL's names are short, those of attributes need not be.
    return f"rule_{number}"


def _with_host(url: str) -> str:
    """Add a host to the URL of a socket folder: Great Expectations requires one."""
    made = make_url(url)
    made = made if made.host else made.set(host="localhost")
    return made.render_as_string(hide_password=False)


def _merged(results: list[Any], suite: str) -> dict[str, Any]:
    merged = merge_results([])
    for result in results:
        expectation: Any = result.expectation_config.to_domain_obj()
        counts = result.result
        reason = expectation.meta["reason"]
        if reason == Reason.ROW_COUNT_UNUSUAL and "observed_value" in counts:
            broken = 0 if result.success else 1
        elif "unexpected_count" in counts:
            merged["rows"] = counts["element_count"]
            broken = int(counts["unexpected_count"])
        else:
            raise ExpectationError(
                suite,
                type(expectation).__name__,
                "no count was returned",
            )
        if broken:
            critical = Severity(expectation.severity.value) is Severity.CRITICAL
            of = merged["by_reason" if critical else "warnings"]
            of[reason] = broken
    del merged["examples"], merged["failed_rows"]
    return merged
