"""One report of several entities: sums, joined findings, and one verdict."""

from dataclasses import replace
from typing import Any

import pytest

from flows.mapping.template import Template
from flows.models import (
    CLASSES,
    ENTERPRISE_TABLE,
    Difference,
    DifferenceClass,
    SourceTable,
)
from flows.reconciliation.combine import combine
from flows.reconciliation.report import ReconciliationReport

PRODUCTS = SourceTable(
    "shop",
    "products",
    "id",
    "integer",
    (),
    entity="product",
    partition_key=Template("PROD#{id}"),
    sort_key=Template("METADATA"),
    columns_not_migrated=("notes",),
)


def of_entity(
    source: SourceTable, rows: int, items: int | None = None, **changes: Any
) -> ReconciliationReport:
    """Return the report of an entity; all rows are equal unless it is changed."""
    counts = {name: changes.pop(name, 0) for name in CLASSES}
    counts["matched"] = rows - sum(counts.values())
    items = rows if items is None else items
    report = ReconciliationReport(rows, items, counts, sources=(source,))
    return replace(report, **changes)


def both(
    enterprises: ReconciliationReport, products: ReconciliationReport
) -> ReconciliationReport:
    """Return the report of both entities."""
    return combine({"enterprise": enterprises, "product": products})


def test_one_report_stays_as_it_is() -> None:
    """The built-in mapping must not notice that there could be more entities."""
    alone = of_entity(ENTERPRISE_TABLE, 3)

    assert combine({"enterprise": alone}) is alone
    assert alone.part("enterprise") is alone
    assert "entities" not in alone.asdict()
    assert "entity" not in alone.differences


def test_counts_are_sums_and_findings_are_joined() -> None:
    """Nothing of an entity may be lost or counted twice."""
    missing = Difference(
        DifferenceClass.MISSING, "1", "x", entity="product", key=("PROD#x", "METADATA")
    )
    report = both(
        of_entity(
            ENTERPRISE_TABLE,
            3,
            explained=1,
            explained_with_item=1,
            other_items={"USER# / METADATA": 2},
            days={"created": {"source": {"2024-02-29": 3}, "target": {}}},
        ),
        of_entity(
            PRODUCTS,
            5,
            4,
            missing=1,
            found=(missing,),
            other_items={"USER# / METADATA": 2},
            days={"created": {"source": {"2024-02-29": 1}, "target": {}}},
        ),
    )
    values = report.asdict()

    assert (report.source_rows, report.target_items) == (8, 7)
    assert report.explained_with_item == 1
    assert report.other_items == {"USER# / METADATA": 2}
    assert report.days["created"]["source"] == {"2024-02-29": 4}
    assert report.verdict == "Different: 1 missing."
    (listed,) = values["differences"]
    assert list(listed) == ["class", "entity", "source_id", "id", "fields"]
    assert listed["entity"] == "product"
    assert report.differences["entity"].tolist() == ["product"]
    assert values["columns_not_migrated"] == ["shop.products.notes"]
    product = values["entities"]["product"]
    assert (product["source_rows"], product["missing"]) == (5, 1)
    assert product["columns_not_migrated"] == ["notes"]
    assert report.part("product").counts["missing"] == 1


@pytest.mark.parametrize(
    ("enterprises", "products", "reason"),
    [
        ({"rows": 3}, {"rows": 0}, ""),
        ({"rows": 0}, {"rows": 3}, ""),
        ({"rows": 0}, {"rows": 0}, "the source has no rows (--allow-empty)"),
        (
            {"rows": 3},
            {"rows": 2, "explained": 2},
            "product: all rows are in quarantine",
        ),
        (
            {"rows": 2, "newer_in_target": 2},
            {"rows": 2},
            "enterprise: no row is equal to its item",
        ),
        (
            {"rows": 3, "unaccepted": 1},
            {"rows": 2, "unaccepted": 1},
            "2 rows are in quarantine, and no proven run accepted them",
        ),
    ],
)
def test_each_entity_with_rows_must_be_proven(
    enterprises: dict[str, Any], products: dict[str, Any], reason: str
) -> None:
    """Equal rows of one entity prove nothing about another one."""
    report = both(
        of_entity(ENTERPRISE_TABLE, **enterprises), of_entity(PRODUCTS, **products)
    )

    assert report.unproven == reason
    assert report.status == ("unproven" if reason else "clean")


@pytest.mark.parametrize(
    ("modes", "expected"),
    [
        (("full", "full"), "full"),
        (("full", "partial"), "partial"),
        (("sampled", "full"), "sampled"),
    ],
)
def test_all_entities_must_be_whole_for_a_full_comparison(
    modes: tuple[str, str], expected: str
) -> None:
    """A sample of one entity makes the whole report a sample, which is no proof."""
    samples = [3 if mode == "sampled" else None for mode in modes]
    report = both(
        of_entity(ENTERPRISE_TABLE, 3, mode=modes[0], sample=samples[0]),
        of_entity(PRODUCTS, 3, mode=modes[1], sample=samples[1]),
    )

    assert report.mode == expected
    assert (report.status == "clean") is (expected != "sampled")
