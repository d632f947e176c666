"""The origin of the table's items: recorded once, and compared by each run."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from flows.errors import OriginError
from flows.models import ENTERPRISE_TABLE, Item
from flows.settings import Settings
from flows.stores.dynamodb.origin import (
    ORIGIN,
    origin_item,
    record_origin,
    require_origin,
)
from flows.stores.dynamodb.table import EnterpriseTable
from flows.stores.dynamodb.wire import to_wire
from tests.support.faults import error, passing, reset_after
from tests.support.target_table import put, through_proxy

ReadItems = Callable[[], dict[str, dict[str, Any]]]

on_dynamodb_local = pytest.mark.parametrize(
    "endpoint", ["dynamodb-local"], indirect=True
)
MAPPING: dict[str, Any] = {
    "entities": {"enterprise": {"table": "public.enterprises", "id": "id"}}
}
PRODUCTS = {"table": "public.products", "id": "id"}
MORE = {"entities": {"product": PRODUCTS, **MAPPING["entities"]}}


def make_origin(mapping: dict[str, Any] | None = None) -> Item:
    """Create the origin of the default settings under a mapping."""
    return origin_item(Settings.isolated(), [ENTERPRISE_TABLE], mapping)


@pytest.fixture
def origin() -> Item:
    """Return the origin of the default settings."""
    return make_origin()


def test_the_origin_is_recorded_once(
    table: EnterpriseTable, items: ReadItems, origin: Item
) -> None:
    """The first run must write it; later runs must find it and not change it."""
    require_origin(table, origin)
    record_origin(table, origin)
    first = items()
    record_origin(table, origin)
    require_origin(table, origin)

    assert list(first.values()) == [to_wire(origin)]
    assert items() == first
    assert not table.is_taken()


@pytest.mark.parametrize("name", ["namespace", "source_table", "id_column"])
@on_dynamodb_local
def test_another_origin_is_refused(
    table: EnterpriseTable, items: ReadItems, origin: Item, name: str
) -> None:
    """Ids from another rule would double the table: the error must name both rules."""
    record_origin(table, origin)
    other = origin | {name: "another"}
    for check in (require_origin, record_origin):
        with pytest.raises(OriginError, match="another") as caught:
            check(table, other)

    assert str(origin[name]) in caught.value.message
    assert list(items().values()) == [to_wire(origin)]


@pytest.mark.parametrize("same", [True, False])
@on_dynamodb_local
def test_two_runs_may_record_at_once(
    table: EnterpriseTable, origin: Item, *, same: bool
) -> None:
    """If two runs begin together, one with another rule must be refused."""
    other: dict[str, Any] = origin | ({} if same else {"namespace": "another"})
    with through_proxy(table) as (behind, proxy):
        proxy.add(passing(lambda: put(table, other)), operation="PutItem", times=1)
        if same:
            record_origin(behind, origin)
        else:
            with pytest.raises(OriginError):
                record_origin(behind, origin)

    assert table.get_own("ORIGIN") == other


@on_dynamodb_local
def test_an_origin_whose_answer_is_lost_is_found(
    table: EnterpriseTable, origin: Item
) -> None:
    """A write whose answer was lost must not look like that of another run."""
    with through_proxy(table) as (behind, proxy):
        proxy.add(error("ThrottlingException"), operation="PutItem", times=1)
        proxy.add(reset_after(), operation="PutItem", times=1)
        record_origin(behind, origin)
        puts = len(proxy.calls_of("PutItem"))

    assert puts == 2
    assert table.get_own("ORIGIN") == origin


# The mapping.


def test_the_origin_of_a_mapping_is_that_of_its_enterprises() -> None:
    """The ids of enterprises follow their own table, wherever it is in the file."""
    products = replace(ENTERPRISE_TABLE, table="products", entity="product")
    settings = Settings.isolated()
    both = origin_item(settings, [products, ENTERPRISE_TABLE], MORE)
    alone = origin_item(settings, [products], MORE)

    assert both["source_table"] == "public.enterprises"
    assert alone["source_table"] == "public.products"
    assert set(both) - set(make_origin()) == {"mapping"}
    assert both["mapping"].startswith('{"entities":{"enterprise":{"id":"id"')


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (None, MAPPING, "a mapping file now"),
        (MAPPING, None, "the built-in mapping now"),
        (MAPPING, MORE, "entity product is new"),
        (MORE, MAPPING, "entity product is gone"),
    ],
)
@on_dynamodb_local
def test_another_mapping_is_refused_until_it_is_accepted(
    table: EnterpriseTable,
    items: ReadItems,
    before: dict[str, Any] | None,
    now: dict[str, Any] | None,
    said: str,
) -> None:
    """The error names what changed; accepting it replaces the recorded mapping."""
    first, second = make_origin(before), make_origin(now)
    record_origin(table, first)
    for check in (require_origin, record_origin):
        with pytest.raises(OriginError, match=said) as caught:
            check(table, second)
        assert "--accept-mapping" in caught.value.remedy
    unchanged = list(items().values())
    require_origin(table, second, accept_mapping=True)
    record_origin(table, second, accept_mapping=True)
    require_origin(table, second)

    assert unchanged == [to_wire(first)]
    assert list(items().values()) == [to_wire(second)]


@on_dynamodb_local
def test_the_same_mapping_in_another_order_is_the_same(table: EnterpriseTable) -> None:
    """The order of entities and keys in the file changes no item."""
    turned = {"entities": dict(reversed(MORE["entities"].items()))}
    record_origin(table, make_origin(MORE))

    record_origin(table, make_origin(turned))
    require_origin(table, make_origin(turned))


@pytest.mark.parametrize("name", ["namespace", "source_table", "id_column"])
@on_dynamodb_local
def test_accepting_a_mapping_accepts_no_other_rule_of_ids(
    table: EnterpriseTable, name: str
) -> None:
    """Ids by another rule would double the items, whatever else is accepted."""
    first = make_origin(MAPPING)
    record_origin(table, first)
    other = make_origin(MORE) | {name: "another"}
    for check in (require_origin, record_origin):
        with pytest.raises(OriginError, match="another") as caught:
            check(table, other, accept_mapping=True)

    assert "mapping file" in caught.value.remedy
    assert table.get_own(ORIGIN) == first


@on_dynamodb_local
def test_a_mapping_is_replaced_only_as_it_was_seen(table: EnterpriseTable) -> None:
    """If another run replaces it meanwhile, that one's mapping is read first."""
    record_origin(table, make_origin(MAPPING))
    theirs = make_origin({"entities": {"product": PRODUCTS}})

    def replace_it() -> None:
        record_origin(table, theirs, accept_mapping=True)

    with through_proxy(table) as (behind, proxy):
        proxy.add(passing(replace_it), operation="UpdateItem", times=1)
        record_origin(behind, make_origin(MORE), accept_mapping=True)
        updates = len(proxy.calls_of("UpdateItem"))
    with pytest.raises(OriginError, match="entity enterprise is gone"):
        require_origin(table, theirs)

    # The first attempt failed on what it had seen, and the second one replaced it.
    assert updates == 2
    assert table.get_own(ORIGIN) == make_origin(MORE)


@on_dynamodb_local
def test_an_accepted_mapping_whose_answer_is_lost_is_found(
    table: EnterpriseTable,
) -> None:
    """A replacement that was applied must not be taken for that of another run."""
    record_origin(table, make_origin(MAPPING))
    with through_proxy(table) as (behind, proxy):
        proxy.add(reset_after(), operation="UpdateItem", times=1)
        record_origin(behind, make_origin(MORE), accept_mapping=True)

    assert table.get_own(ORIGIN) == make_origin(MORE)


@on_dynamodb_local
def test_a_mapping_that_cannot_be_read_is_refused(table: EnterpriseTable) -> None:
    """A record that another program damaged must not pass for the same mapping."""
    put(table, make_origin(MAPPING) | {"mapping": "no JSON"})
    with pytest.raises(OriginError, match="unreadable"):
        require_origin(table, make_origin(MAPPING))
