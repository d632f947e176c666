"""The first lines of a report: every fact, and none that is not known."""

from dataclasses import dataclass, field

from flows.models import SourceTable
from flows.reports.circumstances import NOT_KNOWN, Circumstances
from flows.reports.cover import cover_lines
from tests.support.source_table import make_source_table


@dataclass
class Signed:
    """A report with the facts of its first lines."""

    circumstances: Circumstances = field(default_factory=Circumstances)
    sources: tuple[SourceTable, ...] = ()
    source_rows: int = 5_000
    subject: str = "run one"
    snapshot: str = ""
    target: dict[str, str] = field(default_factory=dict)
    excepted: tuple[str, ...] = ()
    exit_code: int = 0


def test_every_fact_is_shown() -> None:
    """Numbers have separators, and times are in UTC to the second."""
    made = Circumstances(
        begun="2024-02-29T00:00:00.123Z",
        ended="2024-02-29T00:03:12.400Z",
        version="0.1.0",
        host="worker-1",
        operator="Ana Ng",
        database="database shop on db.example.com, port 5432",
        server="PostgreSQL 18.1, system identifier 7",
        account="123456789012",
    )
    source = make_source_table(columns_not_migrated=("phone", "Tax No"))
    target = {"table": "T", "region": "eu-west-1", "endpoint": "https://target"}
    excepted = ("7 explained: in quarantine", "2 newer in target: changed later")
    shown = cover_lines(
        Signed(made, (source,), snapshot="now", target=target, excepted=excepted)
    )

    assert shown == {
        "Report of": "run one",
        "Begun": "2024-02-29 00:00:00 UTC",
        "Ended": "2024-02-29 00:03:12 UTC",
        "Duration": "3 min 12 s",
        "Program": "enterprise-migration 0.1.0",
        "Host": "worker-1",
        "Operator": "Ana Ng",
        "Source": "database shop on db.example.com, port 5432,"
        " table public.enterprises, 5,000 rows",
        "Server": "PostgreSQL 18.1, system identifier 7",
        "Snapshot": "now",
        "Target": "T, eu-west-1, https://target",
        "Account": "123456789012",
        "Columns moved": "id as PK, id; name as enterprise_name, name;"
        " created_date as created_date, createdAt;"
        " updated_date as updated_date, updatedAt",
        "Columns left behind": 'phone, "Tax No"',
        "To carry them": "enterprises mapping init writes a mapping file that has them",
        "Excepted": "7 explained: in quarantine; 2 newer in target: changed later",
        "Exit code": "0",
    }


def test_what_is_not_known_is_said() -> None:
    """An empty line could be taken for a fact."""
    shown = cover_lines(Signed())

    assert shown["Account"] == shown["Server"] == shown["Operator"] == NOT_KNOWN
    assert shown["Excepted"] == "nothing"
    known = cover_lines(Signed(sources=(make_source_table(),)))
    assert known["Columns left behind"] == "none"
