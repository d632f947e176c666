"""Policies for entities: a grant on each form of partition key, and on no other."""

from typing import Any

import pytest

from flows.mapping.template import Template
from flows.stores.dynamodb.iam import Purpose, grants_of, make_policy

ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/T"
KEYS = ["ENT#{id}", "ENT#{enterprise_id}", "SEAT#{id}", "ALL", "a*b?$c#{id}"]


def keys_by_sid(policy: dict[str, Any]) -> dict[str, Any]:
    """Return the patterns of partition keys of each statement that has some."""
    return {
        one["Sid"]: one["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]
        for one in policy["Statement"]
        if "Condition" in one
    }


@pytest.mark.parametrize("purpose", ["migrate", "reconcile"])
def test_a_policy_covers_the_keys_of_all_entities(purpose: Purpose) -> None:
    """Each form is granted once; IAM must not read a constant as a wildcard."""
    templates = [Template.parse(key) for key in KEYS]
    made = make_policy(
        purpose, ARN, deletes=purpose == "migrate", partition_keys=templates
    )
    found = keys_by_sid(made)
    own = found.pop("LeaseAndMarkers")

    assert own == ["MIGRATION#enterprises"]
    patterns = ["ENT#*", "SEAT#*", "ALL", "a${*}b${?}${$}c#*"]
    assert list(found.values()) == [patterns] * (1 + (purpose == "migrate"))


def test_the_service_has_enterprises_only() -> None:
    """The service neither reads nor writes other entities."""
    made = make_policy("serve", ARN, partition_keys=[Template("SEAT#{id}")])

    assert keys_by_sid(made) == {"Enterprises": ["ENT#*"]}


def test_each_form_of_key_can_be_tried() -> None:
    """A permission is tried on a key of each form, one that no item has."""
    templates = [Template.parse(key) for key in KEYS[:3]]
    grants = {one.sid: one for one in grants_of("migrate", partition_keys=templates)}

    tried = ("ENT#doctor", "ENT#doctor", "SEAT#doctor")
    assert grants["Enterprises"].examples == tried
    assert grants["LeaseAndMarkers"].examples == ("MIGRATION#enterprises",)
    assert grants["Table"].examples == ("ENT#doctor",)
