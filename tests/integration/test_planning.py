"""Plans, compared with the units that the benchmarks' endpoint counts."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from typer.testing import CliRunner

from flows import pipeline
from flows.cli.app import app
from flows.errors import SettingsError, SourceError
from flows.models import MigrateOptions
from flows.planning.plan import plan_migration
from flows.stores.dynamodb.capacity_units import item_bytes
from flows.stores.dynamodb.prices import find_prices
from flows.stores.dynamodb.schema import create_table
from flows.stores.dynamodb.table import EnterpriseTable
from flows.stores.dynamodb.wire import from_wire
from tests.benchmarks.endpoint import read_consumption, running_endpoint
from tests.support.fault_proxy import FaultProxy
from tests.support.faults import change
from tests.support.source_database import SourceDatabase
from tests.support.target_table import as_puts, open_at

ROWS = 4_000
WITHIN = 0.05
# Names from nothing to 300 KB, with one to four bytes per character; some are blank.
FILL = """
CREATE TABLE enterprises (id bigint PRIMARY KEY, name text, created_date timestamptz,
                          updated_date timestamptz) WITH (autovacuum_enabled = false);
INSERT INTO enterprises
SELECT n, CASE WHEN n %% 50 = 0 THEN ' ' WHEN n = 77 THEN repeat('x', 150000)
               WHEN n = 78 THEN repeat('x', 300000) WHEN n = 79 THEN NULL
               WHEN n %% 9 = 0 THEN repeat('株', 200 + n %% 300)
               WHEN n %% 7 = 0 THEN '🚀' ELSE 'Enterprise ' || n END,
       '2024-01-05 12:34:56.789+00', '2024-02-29 00:00:00+00'
FROM generate_series(1, %s) AS n
"""
QUARANTINED = ROWS // 50 + 2
OTHERS: list[Any] = [
    {"PK": f"EPS#{n}", "SK": "METADATA", "entity_type": "eps", "text": "y" * 3_000}
    for n in range(400)
]
OPTIONS = MigrateOptions(allow_quarantined=QUARANTINED)


@pytest.fixture(scope="module")
def counting_endpoint() -> Iterator[str]:
    """Run an endpoint that counts consumed units; yield its URL."""
    with running_endpoint() as url:
        yield url


@pytest.fixture
def database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> SourceDatabase:
    """Fill the source, and name it in the environment."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    source = SourceDatabase(database_url)
    source.run(FILL, values=[ROWS])
    return source


@dataclass
class CountedTable:
    """A table whose requests are counted, and whose description has its size."""

    table: EnterpriseTable
    description: dict[str, Any] = field(default_factory=dict)

    def refresh(self) -> None:
        """Set the size in the description to the table's current size."""
        pages = self.table.client.get_paginator("scan").paginate(
            TableName=self.table.name
        )
        items = [from_wire(item) for page in pages for item in page["Items"]]
        self.description["TableSizeBytes"] = sum(map(item_bytes, items))

    def consumed(self, step: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
        """Run a step; return its result, and the units that it consumed."""
        read_consumption(self.table.endpoint)
        result = step()
        return result, read_consumption(self.table.endpoint)["total"]


@pytest.fixture
def counted(
    counting_endpoint: str, table_name: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[CountedTable]:
    """Create a table that holds other items, and name it in the environment."""
    table = open_at(counting_endpoint, table_name)
    create_table(table)
    for start in range(0, len(OTHERS), 25):
        assert table.put_batch(as_puts(OTHERS[start : start + 25])) == []
    counting = CountedTable(table)
    with FaultProxy(counting_endpoint) as proxy:
        described = change(lambda d: {"Table": d["Table"] | counting.description})
        proxy.add(described, operation="DescribeTable")
        monkeypatch.setenv("DYNAMODB_ENDPOINT", proxy.url)
        monkeypatch.setenv("DYNAMODB_ENTERPRISE_TABLE", table_name)
        counting.refresh()
        yield counting


def assert_as_planned(planned: dict[str, Any], actual: dict[str, float]) -> None:
    """Assert that write and read units are as planned, within five percent."""
    wanted = [planned["write_units"], planned["read_units"]]
    found = [actual.get("write_units", 0), actual.get("read_units", 0)]

    assert found == pytest.approx(wanted, rel=WITHIN, abs=3)


@pytest.mark.parametrize("estimate", [False, True])
def test_a_plan_is_what_is_consumed(
    counted: CountedTable, database: SourceDatabase, *, estimate: bool
) -> None:
    """A first load, a load of changed rows and a comparison must cost as planned."""
    database.run("ANALYZE enterprises")
    first = plan_migration(sample=ROWS, estimate=estimate).asdict()
    report, filled = counted.consumed(lambda: pipeline.migrate(OPTIONS))
    counted.refresh()
    database.run(
        "UPDATE enterprises SET name = name || '!', updated_date = '2025-01-01 00:00Z'"
        " WHERE id % 3 = 0"
    )
    again = plan_migration(sample=ROWS, estimate=estimate).asdict()
    repeated, changed = counted.consumed(lambda: pipeline.migrate(OPTIONS))
    counted.refresh()
    then = plan_migration(estimate=estimate).asdict()
    compared, scanned = counted.consumed(pipeline.reconcile)

    states = [plan["target"]["state"] for plan in (first, again, then)]
    assert states == ["no enterprises", "holds enterprises", "holds enterprises"]
    assert report.status == repeated.status == "proven"
    assert compared.status == "clean"
    assert report.ledger.quarantined == first["source"]["quarantined"] == QUARANTINED
    assert again["load"]["write_units"] > 1_000
    assert then["load"]["write_units"] < 20
    assert report.planned["write_units"] == pytest.approx(
        report.capacity["write_units"], rel=WITHIN
    )
    for run in (report, repeated):
        planned, actual = run.planned["read_units"], run.capacity["read_units"]
        assert actual == pytest.approx(planned, rel=WITHIN)
    assert "read_units planned" in str(repeated)
    assert "write_units" not in repeated.planned
    assert_as_planned(first["migrate"], filled)
    assert_as_planned(again["migrate"], changed)
    assert_as_planned(then["reconcile"], scanned)


def test_a_sample_is_enough(counted: CountedTable, database: SourceDatabase) -> None:
    """A plan from a sample of the rows must be as good as one from all of them."""
    database.run("DELETE FROM enterprises WHERE id IN (77, 78)")
    plan = plan_migration(sample=800)
    planned, shown = plan.asdict(), dict(plan.tables())["Source"]
    report, filled = counted.consumed(lambda: pipeline.migrate(OPTIONS))

    assert report.status == "proven"
    assert planned["item"]["sampled_rows"] == 800
    assert shown["quarantined (estimated)"] == planned["source"]["quarantined"]
    assert "quarantined" not in shown
    assert_as_planned(planned["migrate"], filled)


@pytest.mark.usefixtures("database")
def test_the_command_tells_units_time_and_money(
    counted: CountedTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One object has units, time at the table's rate and at the quota, and dollars."""
    counted.description |= {
        "BillingModeSummary": {"BillingMode": "PROVISIONED"},
        "ProvisionedThroughput": {"WriteCapacityUnits": 10, "ReadCapacityUnits": 100},
    }
    monkeypatch.setenv("AWS_REGION", "us-east-1")

    plain = CliRunner().invoke(app, ["plan"])
    result = CliRunner().invoke(app, ["plan", "--json"])
    values = json.loads(result.stdout)
    load, prices = values["load"], values["prices"]

    assert plain.exit_code == result.exit_code == 0
    assert load["on_demand_dollars"] < 0.01
    assert "dollars on demand < 0.01" in " ".join(plain.stdout.split())
    assert values["source"]["rows"] == ROWS
    assert values["source"]["counted"] == "exact"
    assert load["seconds"]["present"] == round(load["write_units"] / 10, 1)
    assert load["seconds"]["quota"] == round(load["write_units"] / 40_000, 1)
    assert load["on_demand_dollars"] == pytest.approx(
        load["write_units"] * 0.625e-6 + load["read_units"] * 0.125e-6, rel=0.01
    )
    assert load["provisioned"] == {
        "write_capacity": 10,
        "read_capacity": 100,
        "hours": 1,
        "dollars": pytest.approx(10 * 0.00065 + 100 * 0.00013),
    }
    assert "2024-11-01" in prices["origin"]


@pytest.mark.usefixtures("database")
def test_the_slowest_index_decides_how_long_it_takes(
    counted: CountedTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A global index has separate write capacity, with additional cost."""
    index = {
        "IndexName": "by-id",
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "Projection": {"ProjectionType": "KEYS_ONLY"},
        "ProvisionedThroughput": {"WriteCapacityUnits": 2, "ReadCapacityUnits": 1},
    }
    keys = ("PK", "SK", "id")
    counted.description |= {
        "BillingModeSummary": {"BillingMode": "PROVISIONED"},
        "ProvisionedThroughput": {"WriteCapacityUnits": 10, "ReadCapacityUnits": 100},
        "AttributeDefinitions": [
            {"AttributeName": name, "AttributeType": "S"} for name in keys
        ],
        "GlobalSecondaryIndexes": [index],
    }
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    slow = plan_migration(sample=ROWS)
    index["ProvisionedThroughput"] = {"WriteCapacityUnits": 1_000}
    quick = plan_migration(sample=ROWS).asdict()["load"]["seconds"]["present"]
    load = slow.asdict()["load"]
    own = load["write_units"] - ROWS + QUARANTINED

    assert load["index_write_units"] == {"by-id": ROWS - QUARANTINED}
    assert load["seconds"]["present"] == (ROWS - QUARANTINED) / 2
    assert quick == pytest.approx(own / 10, abs=0.1)
    assert load["seconds"]["quota"] == pytest.approx(own / 40_000, abs=0.1)
    assert load["provisioned"]["write_capacity"] == 12
    assert slow.asdict()["capacity"]["index_writes_a_second"] == {"by-id": 2}
    assert "writes_a_second in indexes by-id 2" in " ".join(str(slow).split())


def test_no_rows_need_no_units(counted: CountedTable, database: SourceDatabase) -> None:
    """A plan of an empty source must succeed, whatever the table holds."""
    pipeline.migrate(OPTIONS)
    database.run("DELETE FROM enterprises", "VACUUM ANALYZE enterprises")
    for estimate in (False, True):
        load = plan_migration(estimate=estimate).asdict()["load"]
        assert load["write_units"] < 10
    assert counted.table.is_taken()


@pytest.mark.usefixtures("database", "counted")
def test_prices_are_given_where_none_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another region has only the given prices, and the plan reports it."""
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    unknown = plan_migration(sample=10).asdict()
    known = plan_migration(
        sample=10, prices=["million-writes=2", "million-reads=0"]
    ).asdict()

    assert unknown["load"]["on_demand_dollars"] is None
    assert "No prices for eu-west-1 are known" in unknown["prices"]["origin"]
    cost = known["load"]["write_units"] * 2e-6
    assert known["load"]["on_demand_dollars"] == pytest.approx(cost, rel=0.01)
    assert known["load"]["provisioned"]["dollars"] is None
    assert "Given: million_reads, million_writes." in known["prices"]["origin"]


@pytest.mark.parametrize("pair", ["writes=1", "write-hour=x", "write-hour=-1", ""])
def test_a_price_that_is_none_is_refused(pair: str) -> None:
    """A mistyped price must not leave the old one in effect."""
    with pytest.raises(SettingsError, match="is not a price"):
        find_prices("us-east-1", [pair])


def test_a_table_that_is_missing_is_planned_for(
    database: SourceDatabase,
    counting_endpoint: str,
    table_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before create-table the plan is that of a new on-demand table."""
    monkeypatch.setenv("DYNAMODB_ENDPOINT", counting_endpoint)
    monkeypatch.setenv("DYNAMODB_ENTERPRISE_TABLE", table_name)

    planned = plan_migration(sample=10).asdict()

    assert database.ask("SELECT count(*) FROM enterprises") == ROWS
    assert planned["target"]["state"] == "missing"
    assert planned["capacity"]["writes_a_second"] == 4_000


def test_missing_and_stale_statistics_are_refused(
    counted: CountedTable, database: SourceDatabase
) -> None:
    """An estimate needs statistics, and must not plan for deleted rows."""
    with pytest.raises(SourceError, match="no statistics"):
        plan_migration(estimate=True)
    database.run(
        "ANALYZE enterprises", "ALTER TABLE enterprises SET (autovacuum_enabled=false)"
    )
    database.run("DELETE FROM enterprises")
    with pytest.raises(SourceError, match="rows that are not there"):
        plan_migration(estimate=True)
    assert counted.table.is_taken() is False
