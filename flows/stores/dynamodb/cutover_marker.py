"""The cutover marker: the application owns the items from now on."""

from flows.errors import ConditionFailed, Incomplete, TargetError
from flows.models import Item
from flows.stores.dynamodb.lease import CUTOVER, Lease, utc_now
from flows.stores.dynamodb.table import OWN_PARTITION, EnterpriseTable
from flows.stores.dynamodb.wire import to_wire


def declare_cutover(table: EnterpriseTable, lease: Lease) -> Item:
    """Write the marker while no run holds the lease; return it.

    Raises:
        LeaseHeld: a run is under way.
        CutoverDeclared: it is declared already.
        TargetError: the table refuses the lease.
        Incomplete: the lease was lost before the marker was written, or the table
            refuses the marker.
    """
    lease.acquire()
    marker: Item = {"PK": OWN_PARTITION, "SK": CUTOVER, "declared_at": utc_now()}
    fence = table.fence
    try:
        with lease.heartbeat(), table.writing_own():
            # Another process, or our request with a lost answer, may have declared it.
            for attempt in table.attempts(ConditionFailed):
                with attempt:
                    if there := table.get_own(CUTOVER):
                        marker = there
                    else:
                        table.create(marker)
    except TargetError as error:
        # Not a refusal: the lease was already written.
        raise Incomplete(error.message, error.remedy) from None
    finally:
        table.fence = fence
        lease.release()
    return marker


def revoke_cutover(table: EnterpriseTable) -> bool:
    """Delete the marker; return whether there was one."""
    if table.get_own(CUTOVER) is None:
        return False
    for attempt in table.attempts():
        with attempt:
            table.request(
                "DeleteItem",
                TableName=table.name,
                Key=to_wire({"PK": OWN_PARTITION, "SK": CUTOVER}),
            )
    return True
