"""What a privilege includes, and what a door asks for."""

import itertools

import pytest

from licensing.permissions import (
    ANYBODY,
    GLOBAL_ADMIN,
    ORGANIZATION_ADMIN,
    SIGNED_IN,
    Access,
    Privilege,
    View,
    may,
)

IN_ORDER = ["read", "update", "create", "delete"]


@pytest.mark.parametrize(("held", "asked"), [*itertools.product(IN_ORDER, IN_ORDER)])
def test_a_privilege_includes_itself_and_those_before_it(held: str, asked: str) -> None:
    assert Privilege(held).includes(Privilege(asked)) == (IN_ORDER.index(held) >= IN_ORDER.index(asked))


def test_there_are_no_other_privileges_and_views() -> None:
    assert [*Privilege] == IN_ORDER
    assert {*View} == {"products", "customers", "customerProducts", "environments", "reports", "notices", "users"}


@pytest.mark.parametrize(
    ("access", "told"),
    [
        (ANYBODY, "anybody"),
        (SIGNED_IN, "signed in"),
        (ORGANIZATION_ADMIN, "organization admin"),
        (GLOBAL_ADMIN, "global admin"),
        (may(View.CUSTOMER_PRODUCTS, Privilege.UPDATE), "customerProducts: update"),
    ],
)
def test_a_door_tells_what_it_asks_for(access: Access, told: str) -> None:
    assert str(access) == told
