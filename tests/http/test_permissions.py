"""Privileges, and the access that endpoints require."""

import itertools

import pytest

from licensing.http.permissions import (
    ANONYMOUS,
    GLOBAL_ADMIN,
    ORGANIZATION_ADMIN,
    SIGNED_IN,
    Access,
    Privilege,
    View,
    requires,
)

IN_ORDER = ["read", "update", "create", "delete"]


@pytest.mark.parametrize(("held", "asked"), [*itertools.product(IN_ORDER, IN_ORDER)])
def test_privilege_includes_itself_and_lower_privileges(held: str, asked: str) -> None:
    assert Privilege(held).includes(Privilege(asked)) == (IN_ORDER.index(held) >= IN_ORDER.index(asked))


def test_privilege_and_view_have_exactly_the_expected_values() -> None:
    assert [*Privilege] == IN_ORDER
    assert {*View} == {"products", "customers", "customerProducts", "environments", "reports", "notices", "users"}


@pytest.mark.parametrize(
    ("access", "told"),
    [
        (ANONYMOUS, "anonymous"),
        (SIGNED_IN, "signed in"),
        (ORGANIZATION_ADMIN, "organization admin"),
        (GLOBAL_ADMIN, "global admin"),
        (requires(View.CUSTOMER_PRODUCTS, Privilege.UPDATE), "customerProducts: update"),
    ],
)
def test_access_str_names_the_required_caller_or_privilege(access: Access, told: str) -> None:
    assert str(access) == told
