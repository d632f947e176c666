"""The IAM actions that the requests of each command need, and no more.

A transaction is authorised by its parts, so it has no separate action here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from flows.mapping.template import Template
from flows.models.sources import ENTERPRISE_KEY
from flows.stores.dynamodb.table import OWN_PARTITION

Purpose: TypeAlias = Literal["migrate", "reconcile", "serve"]

# Doctor tries requests that change nothing in partitions that end with it.
NOBODY = "doctor"
# Characters that IAM does not take literally in a condition with wildcards.
SPECIAL = str.maketrans({char: f"${{{char}}}" for char in "*?$"})


@dataclass(frozen=True)
class Grant:
    """Actions on the table; with *keys*, only on items with these partition keys."""

    sid: str
    actions: tuple[str, ...]
    keys: tuple[Template, ...] | None = None

    @property
    def examples(self) -> tuple[str, ...]:
        """Return a partition key of each form, one that no item of a run has."""
        return tuple(
            key.prefix if key.is_constant else key.prefix + NOBODY
            for key in self.keys or (ENTERPRISE_KEY,)
        )

    def statement(self, resource: str) -> dict[str, Any]:
        """Return the grant as a statement of a policy."""
        statement: dict[str, Any] = {
            "Sid": self.sid,
            "Effect": "Allow",
            "Action": [f"dynamodb:{action}" for action in self.actions],
            "Resource": resource,
        }
        if self.keys is not None:
            # Not for Scan, which has no key: a condition on a key would always hold.
            patterns = list(dict.fromkeys(map(_pattern, self.keys)))
            keys = {"dynamodb:LeadingKeys": patterns}
            statement["Condition"] = {"ForAllValues:StringLike": keys}
        return statement


_TABLE = Grant("Table", ("DescribeTable", "Scan"))
_OWN = (Template(OWN_PARTITION),)


def grants_of(
    purpose: Purpose,
    *,
    deletes: bool = False,
    partition_keys: Sequence[Template] = (ENTERPRISE_KEY,),
) -> Sequence[Grant]:
    """Return the grants of a command on items with some forms of partition key.

    With *deletes*, these are also to delete items. The service has enterprises only.
    """
    keys = tuple(partition_keys)
    if purpose == "serve":
        actions = ("DeleteItem", "GetItem", "PutItem", "UpdateItem")
        return _TABLE, Grant("Enterprises", actions, (ENTERPRISE_KEY,))
    if purpose == "reconcile":
        return (
            _TABLE,
            Grant("Enterprises", ("BatchGetItem",), keys),
            Grant("LeaseAndMarkers", ("GetItem",), _OWN),
        )
    writes = ("BatchGetItem", "BatchWriteItem", "PutItem", "UpdateItem")
    own = ("ConditionCheckItem", "DeleteItem", "GetItem", "PutItem", "UpdateItem")
    grants = (
        _TABLE,
        Grant("Enterprises", writes, keys),
        Grant("LeaseAndMarkers", own, _OWN),
    )
    delete = Grant("DeleteEnterprises", ("DeleteItem",), keys)
    return (*grants, delete) if deletes else grants


def make_policy(
    purpose: Purpose,
    resource: str,
    *,
    deletes: bool = False,
    partition_keys: Sequence[Template] = (ENTERPRISE_KEY,),
) -> dict[str, Any]:
    """Return the least policy for a command on the table of the ARN *resource*.

    *partition_keys* are the templates of the entities. With *deletes*, ``migrate`` may
    also delete items: ``--propagate-deletes``, ``--undo-trial`` and ``reconcile
    --repair --delete-extra`` need that.
    """
    grants = grants_of(purpose, deletes=deletes, partition_keys=partition_keys)
    statements = [grant.statement(resource) for grant in grants]
    return {"Version": "2012-10-17", "Statement": statements}


def _pattern(key: Template) -> str:
    """Return the pattern of a partition key, with its own wildcards escaped."""
    return key.prefix.translate(SPECIAL) + ("" if key.is_constant else "*")
