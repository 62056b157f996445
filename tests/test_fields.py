"""Fields as requests bring them: null stands for what is not there, and never hides a slip."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from licensing.catalogue.model import Customer, Role
from licensing.errors import RuleBroken
from licensing.fields import merged, parse
from licensing.permissions import Privilege, View

COMMON: dict[str, Any] = {"id": "r", "created_at": datetime.now(UTC), "updated_at": datetime.now(UTC)}
CUSTOMER = Customer(**COMMON, name="Fabrikam")
ROLE = Role(**COMMON, name="Sales", privileges={View.CUSTOMERS: Privilege.READ})


def test_null_is_as_if_a_field_were_not_there() -> None:
    assert parse(Customer, {"name": "Fabrikam", "number": None, "region": None}) == {"name": "Fabrikam"}


def test_null_in_a_patch_takes_away_what_is_there() -> None:
    assert merged(ROLE, {"privileges": {"customers": None, "users": None}})["privileges"] == {}
    assert merged(ROLE, {"privileges": None})["privileges"] == {}


type Reader = Callable[[Any], dict[str, Any]]


@pytest.mark.parametrize("body", [{"nmae": None}, {"": None}, {"product_ids": None}, {"productIds": None}])
@pytest.mark.parametrize("read", [partial(parse, Customer), partial(merged, CUSTOMER)])
def test_a_field_that_there_is_not_is_refused_even_as_null(read: Reader, body: dict[str, Any]) -> None:
    with pytest.raises(RuleBroken) as caught:
        read({"name": "Fabrikam", **body})
    assert [(fault.field, fault.code) for fault in caught.value.errors] == [(*body, "unknownField")]


@pytest.mark.parametrize("read", [partial(parse, Role), partial(merged, ROLE)])
def test_a_view_that_there_is_not_is_refused_even_as_null(read: Reader) -> None:
    with pytest.raises(RuleBroken, match="choose one of products, customers"):
        read({"name": "Sales", "privileges": {"custmers": None}})
