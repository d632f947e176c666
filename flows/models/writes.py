"""What runs left of the items, and what the writing rules make of an item."""

from collections.abc import (
    Callable,
    Mapping,
)
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from flows.models.items import (
    Attribute,
    Item,
    digest,
    is_enterprise,
    same_value,
)
from flows.models.stamps import has_readable_stamps, is_newer


@dataclass(frozen=True)
class LastWrite:
    """What runs of ours left of an item: the digests that it may have.

    *there* is false where only partitions that did not come to their end have sent it,
    of which nobody can tell whether it was applied, and where a run deleted it.
    """

    digests: frozenset[bytes]
    there: bool
    # An attempt before the last one may have sent it.
    before: bool = False
    # Of the row that it came from.
    source_id: str | None = field(default=None, compare=False)


# Returns, for some ids, what runs of ours left of their items.
WriteHistory: TypeAlias = Callable[[set[str]], Mapping[str, LastWrite]]


def changed_by_application(
    known: Mapping[str, LastWrite],
    item: Mapping[str, Attribute],
    there: Mapping[str, Attribute] | None,
) -> bool:
    """Return whether an application, not a run of ours, made the target what it is.

    *known* tells by id what runs of ours left; *there* is what the table has for
    *item* now.
    """
    trace = known.get(str(item["id"]))
    if there is None:
        return trace is not None and trace.there
    return trace is None or digest(there.get(n) for n in item) not in trace.digests


def is_edited(
    known: Mapping[str, LastWrite],
    item: Mapping[str, Attribute],
    there: Mapping[str, Attribute],
) -> bool:
    """Return whether what is *there* for *item* differs from what a run left of it.

    An item that no partition left, and no earlier attempt may have, is not edited.
    """
    trace = known.get(str(item["id"]))
    ours = trace is not None and (trace.there or trace.before)
    return ours and changed_by_application(known, item, there)


class Decision(StrEnum):
    """What loading does with an item, given what is at its key."""

    CREATE = "create"
    UPDATE = "update"
    LEAVE_EQUAL = "leave equal"
    # Another kind of item, which is never ours to change.
    LEAVE_FOREIGN = "leave foreign"
    # An edit or a deletion of the application.
    LEAVE_NEWER = "leave newer"


def decide(
    item: Item,
    there: Item | None,
    known: Callable[[], Mapping[str, LastWrite]],
    *,
    after_cutover: bool = False,
) -> Decision:
    """Decide what to do with an item by what is *there* at its key.

    *known* returns what runs of ours left of the items; it is called only where the
    decision depends on it: *after_cutover*, or if a time of last change is unreadable.
    """
    if there is not None:
        if all(same_value(there.get(name), value) for name, value in item.items()):
            return Decision.LEAVE_EQUAL
        if not is_enterprise(there):
            return Decision.LEAVE_FOREIGN
        if is_newer(there, str(item["updatedAt"])):
            return Decision.LEAVE_NEWER
    if after_cutover:
        theirs = changed_by_application(known(), item, there)
    elif there is None or has_readable_stamps(there):
        theirs = False
    else:
        theirs = is_edited(known(), item, there)
    if theirs:
        return Decision.LEAVE_NEWER
    return Decision.CREATE if there is None else Decision.UPDATE
