"""The last writes of runs to items, and the rules by which items are written."""

from collections.abc import (
    Callable,
    Iterable,
    Mapping,
)
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from flows.models.items import (
    Attribute,
    Item,
    Key,
    digest,
    key_of,
    same_value,
)
from flows.models.stamps import has_readable_stamps, is_newer

OF_NOW: frozenset[tuple[str, ...]] = frozenset({()})


@dataclass(frozen=True)
class LastWrite:
    """The last writes of runs to an item: the digests that it may have.

    *there* is false if only unfinished partitions sent the item, since such a write may
    not have been applied, and if a run deleted the item.
    """

    digests: frozenset[bytes]
    there: bool
    # An attempt before the last one may have sent it.
    before: bool = False
    # The id of the row that it came from.
    source_id: str | None = field(default=None, compare=False)
    # The key at which it was sent, unless its id alone shows it.
    key: Key | None = None
    # What the digests are of: lists of attributes; an empty one for those of now.
    attributes: frozenset[tuple[str, ...]] = field(default=OF_NOW, compare=False)
    # Its last writes at other keys, which rows may have had before.
    elsewhere: tuple["LastWrite", ...] = field(default=(), compare=False)

    def is_left_in(
        self, there: Mapping[str, Attribute], attributes: Iterable[str]
    ) -> bool:
        """Return whether an item has the values of the last write.

        *attributes* are those that runs write now.
        """
        now = tuple(attributes)
        return any(
            digest(there.get(name) for name in names or now) in self.digests
            for names in self.attributes
        )

    def at(self, key: Key) -> "LastWrite | None":
        """Return the last write at a key; None if no run has sent the item there."""
        if self.key in {None, key}:
            return self
        return next((one for one in self.elsewhere if one.key == key), None)


# Returns, for some ids, the last writes of runs to their items.
WriteHistory: TypeAlias = Callable[[set[str]], Mapping[str, LastWrite]]


def changed_by_application(
    known: Mapping[str, LastWrite],
    item: Mapping[str, Attribute],
    there: Mapping[str, Attribute] | None,
) -> bool:
    """Return whether an application, not a run, last changed the target.

    *known* has the last writes of runs by id. *there* is what the table now has for
    *item*.
    """
    trace = _trace_of(known, item)
    if there is None:
        return trace is not None and trace.there
    return trace is None or not trace.is_left_in(there, item)


def is_edited(
    known: Mapping[str, LastWrite],
    item: Mapping[str, Attribute],
    there: Mapping[str, Attribute],
) -> bool:
    """Return whether what is *there* for *item* differs from a run's last write.

    An item that no finished partition wrote, and no earlier attempt may have written,
    is not edited.
    """
    trace = _trace_of(known, item)
    ours = trace is not None and (trace.there or trace.before)
    return ours and changed_by_application(known, item, there)


def _trace_of(
    known: Mapping[str, LastWrite], item: Mapping[str, Attribute]
) -> LastWrite | None:
    trace = known.get(str(item["id"]))
    return trace.at(key_of(item)) if trace else None


class Decision(StrEnum):
    """The action of loading for an item, given what is at its key."""

    CREATE = "create"
    UPDATE = "update"
    LEAVE_EQUAL = "leave equal"
    # Another kind of item, which is never changed.
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

    *known* returns the last writes of runs to the items. It is called only if the
    decision depends on it: *after_cutover*, or if a time of last change is unreadable.
    """
    # Without a time of last change, the last writes of runs decide.
    stamp = item.get("updatedAt")
    if there is not None:
        if all(same_value(there.get(name), value) for name, value in item.items()):
            return Decision.LEAVE_EQUAL
        # Both have one key, so the type alone separates the kinds of item.
        if there.get("entity_type") != item["entity_type"]:
            return Decision.LEAVE_FOREIGN
        if stamp and is_newer(there, stamp):
            return Decision.LEAVE_NEWER
    if after_cutover:
        theirs = changed_by_application(known(), item, there)
    elif there is None or (stamp and has_readable_stamps(there)):
        theirs = False
    else:
        theirs = is_edited(known(), item, there)
    if theirs:
        return Decision.LEAVE_NEWER
    return Decision.CREATE if there is None else Decision.UPDATE
