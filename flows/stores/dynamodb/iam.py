"""The IAM actions that the requests of each command need, and no more.

A transaction is authorised by its parts, so it has no separate action here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from flows.models import KEY_PREFIX
from flows.stores.dynamodb.table import OWN_PARTITION

Purpose: TypeAlias = Literal["migrate", "reconcile", "serve"]

ENTERPRISES = f"{KEY_PREFIX}*"


@dataclass(frozen=True)
class Grant:
    """Actions on the table; with *keys*, only on items with these partition keys."""

    sid: str
    actions: tuple[str, ...]
    keys: str | None = None

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
            keys = {"dynamodb:LeadingKeys": [self.keys]}
            statement["Condition"] = {"ForAllValues:StringLike": keys}
        return statement


_TABLE = Grant("Table", ("DescribeTable", "Scan"))
_DELETES = Grant("DeleteEnterprises", ("DeleteItem",), ENTERPRISES)
GRANTS: dict[Purpose, tuple[Grant, ...]] = {
    "migrate": (
        _TABLE,
        Grant(
            "Enterprises",
            ("BatchGetItem", "BatchWriteItem", "PutItem", "UpdateItem"),
            ENTERPRISES,
        ),
        Grant(
            "LeaseAndMarkers",
            ("ConditionCheckItem", "DeleteItem", "GetItem", "PutItem", "UpdateItem"),
            OWN_PARTITION,
        ),
    ),
    "reconcile": (
        _TABLE,
        Grant("Enterprises", ("BatchGetItem",), ENTERPRISES),
        Grant("LeaseAndMarkers", ("GetItem",), OWN_PARTITION),
    ),
    "serve": (
        _TABLE,
        Grant(
            "Enterprises",
            ("DeleteItem", "GetItem", "PutItem", "UpdateItem"),
            ENTERPRISES,
        ),
    ),
}


def grants_of(purpose: Purpose, *, deletes: bool = False) -> Sequence[Grant]:
    """Return the grants of a command; with *deletes*, also to delete enterprises."""
    return (*GRANTS[purpose], _DELETES) if deletes else GRANTS[purpose]


def make_policy(
    purpose: Purpose, resource: str, *, deletes: bool = False
) -> dict[str, Any]:
    """Return the least policy for a command on the table of the ARN *resource*.

    With *deletes*, ``migrate`` may also delete enterprises: ``--propagate-deletes``,
    ``--undo-trial`` and ``reconcile --repair --delete-extra`` need that.
    """
    grants = grants_of(purpose, deletes=deletes)
    statements = [grant.statement(resource) for grant in grants]
    return {"Version": "2012-10-17", "Statement": statements}
