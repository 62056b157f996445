"""Users of a publisher and their access. What is not allowed is refused."""

import itertools
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensing.access.model import (
    authorize_in_publisher,
    belongs_to_directory,
    caller_of,
    find_user,
    privileges_of,
)
from licensing.catalogue.records import Publisher, Role, User
from licensing.errors import Forbidden, PublisherNotFound
from licensing.http.permissions import (
    ANONYMOUS,
    GLOBAL_ADMIN,
    ORGANIZATION_ADMIN,
    SIGNED_IN,
    Access,
    Caller,
    CallerKind,
    Identity,
    Privilege,
    View,
    check_access,
    requires,
)
from tests.support.token_factory import CLIENT, DIRECTORY, OTHER_DIRECTORY, PERSON

COMMON: dict[str, Any] = {"created_at": datetime.now(UTC), "updated_at": datetime.now(UTC)}
PUBLISHER = Publisher(**COMMON, id="p", name="Contoso", allowed_domains=("contoso.example",))


def a_person(**fields: Any) -> Identity:
    whole: dict[str, Any] = {
        "directory_id": DIRECTORY,
        "object_id": PERSON,
        "email": "ada@contoso.example",
        "application_id": CLIENT,
        "name": "Ada",
        "is_application": False,
        "roles": frozenset[str](),
    }
    return Identity(**whole | fields)


def an_application(**fields: Any) -> Identity:
    return a_person(**{"email": "", "is_application": True, "roles": frozenset({"Application"}), **fields})


def a_user(id_: str = "u", **fields: Any) -> User:
    return User(**COMMON, id=id_, **fields)


def a_role(id_: str, **privileges: str) -> Role:
    held = {View(view): Privilege(privilege) for view, privilege in privileges.items()}
    return Role(**COMMON, id=id_, name=id_, privileges=held)


# --- who it is

ADA, APP = a_person(), an_application()
FOUND: dict[str, tuple[Identity, User, bool]] = {
    "their address": (ADA, a_user(email="ada@contoso.example"), True),
    "their address in capitals": (ADA, a_user(email="Ada@CONTOSO.example"), True),
    "another address": (ADA, a_user(email="eve@contoso.example"), False),
    "the program that they use": (ADA, a_user(application_id=CLIENT), False),
    "bound to them, under another address": (
        ADA,
        a_user(email="old@contoso.example", identity=ADA.key),
        True,
    ),
    "bound to somebody else of their address": (ADA, a_user(email=ADA.email, identity=f"{DIRECTORY}|x"), True),
    "bound to their object in another directory": (ADA, a_user(email="x@y.z", identity=f"x|{PERSON}"), False),
    "somebody without an address, and nobody's user": (a_person(email=""), a_user(), False),
    "an application": (APP, a_user(application_id=CLIENT), True),
    "another application": (APP, a_user(application_id=PERSON), False),
    "an application without a client id": (an_application(application_id=""), a_user(email="x@y.z"), False),
    "an application, and a user without one": (APP, a_user(email=""), False),
    "an application with the address of a user": (an_application(email=ADA.email), a_user(email=ADA.email), False),
}


@pytest.mark.parametrize("sentence", FOUND)
def test_find_user_returns_only_bound_or_matching_user(sentence: str) -> None:
    identity, user, is_found = FOUND[sentence]
    others = [a_user("other", email="other@contoso.example"), a_user("app", application_id=OTHER_DIRECTORY)]
    for users in itertools.permutations([*others, user]):
        assert find_user(identity, users) == (user if is_found else None)


def test_find_user_prefers_bound_user_over_user_with_same_email() -> None:
    bound = a_user("bound", email="old@contoso.example", identity=ADA.key)
    namesake = a_user("namesake", email=ADA.email)
    for users in itertools.permutations([bound, namesake]):
        assert find_user(ADA, users) == bound


@pytest.mark.parametrize(
    ("publishers", "own", "is_home"),
    [
        ("", DIRECTORY, True),
        ("", OTHER_DIRECTORY, False),
        ("", "", False),
        (DIRECTORY, OTHER_DIRECTORY, True),
        (OTHER_DIRECTORY, DIRECTORY, False),
    ],
)
def test_belongs_to_directory_compares_publisher_or_own_directory(publishers: str, own: str, *, is_home: bool) -> None:
    assert belongs_to_directory(ADA, replace(PUBLISHER, directory_id=publishers), own) is is_home


@pytest.mark.parametrize(
    ("own", "roles", "is_global_admin"),
    [
        (DIRECTORY, {"GlobalAdmin"}, True),
        (DIRECTORY, {"GlobalAdmin", "Application"}, True),
        (OTHER_DIRECTORY, {"GlobalAdmin"}, False),
        ("", {"GlobalAdmin"}, False),
        (DIRECTORY, {"globaladmin", "Application"}, False),
        (DIRECTORY, set(), False),
    ],
)
def test_caller_of_grants_global_admin_only_in_own_directory(
    own: str, roles: set[str], *, is_global_admin: bool
) -> None:
    for identity in (a_person(roles=frozenset(roles)), an_application(roles=frozenset(roles))):
        assert caller_of(identity, own).is_global_admin is is_global_admin


def test_caller_of_without_own_directory_grants_no_global_admin() -> None:
    """Also not where a token could say of itself that it is of none."""
    assert not caller_of(a_person(directory_id="", roles=frozenset({"GlobalAdmin"})), "").is_global_admin


@pytest.mark.parametrize(
    ("identity", "actor"),
    [
        (a_person(email="Ada@Contoso.example "), "ada@contoso.example"),
        (an_application(), f"application {CLIENT}"),
        (a_person(email=""), f"account {a_person().object_id}"),
    ],
)
def test_caller_actor_names_email_application_or_account(identity: Identity, actor: str) -> None:
    assert Caller(identity).actor == actor


# --- what they may do

privileges = st.dictionaries(st.sampled_from(View), st.sampled_from(Privilege))


@given(st.lists(privileges, max_size=4))
def test_privileges_of_returns_highest_privilege_of_all_roles(given_out: list[dict[View, Privilege]]) -> None:
    roles = {str(index): replace(a_role(str(index)), privileges=held) for index, held in enumerate(given_out)}
    order = [*Privilege]
    expected = {
        view: max((held[view] for held in given_out if view in held), key=order.index)
        for view in View
        if any(view in held for held in given_out)
    }
    for role_ids in ([*roles], [*reversed(roles)]):
        user = a_user(email=ADA.email, role_ids=("gone", *role_ids))
        assert privileges_of(user, roles) == expected


def test_privileges_of_organization_admin_returns_all_regardless_of_roles() -> None:
    user = a_user(email=ADA.email, organization_admin=True, role_ids=("r",))
    assert privileges_of(user, {"r": a_role("r", products="read")}) == dict.fromkeys(View, Privilege.DELETE)


USER = a_user(email=ADA.email, role_ids=("r",))
ROLES = {"r": a_role("r", products="update")}
REJECTED_USERS: dict[str, tuple[User | None, type[Exception]]] = {
    "nobody": (None, PublisherNotFound),
    "another account's": (replace(USER, identity=f"{DIRECTORY}|x"), Forbidden),
    "switched off": (replace(USER, active=False), Forbidden),
    "switched off, though an admin": (replace(USER, active=False, organization_admin=True), Forbidden),
    "of a domain that is not allowed": (replace(USER, email="ada@other.example"), Forbidden),
    "of a domain below": (replace(USER, email="ada@mail.contoso.example"), Forbidden),
    "of two domains": (replace(USER, email="ada@contoso.example@other.example"), Forbidden),
}


@pytest.mark.parametrize("sentence", REJECTED_USERS)
def test_authorize_in_publisher_rejects_user(sentence: str) -> None:
    user, error = REJECTED_USERS[sentence]
    with pytest.raises(error):
        authorize_in_publisher(Caller(ADA), PUBLISHER, user, ROLES)


def test_authorize_in_publisher_returns_caller_with_privileges_of_roles() -> None:
    for user in (USER, replace(USER, identity=ADA.key), replace(USER, email="Ada@Contoso.Example")):
        caller = authorize_in_publisher(Caller(ADA), PUBLISHER, user, ROLES)
        assert not caller.is_organization_admin
        assert caller.privileges == {View.PRODUCTS: Privilege.UPDATE}
    program = a_user(application_id=CLIENT, role_ids=("r",))
    nobodys = replace(PUBLISHER, allowed_domains=())
    assert authorize_in_publisher(Caller(APP), nobodys, program, ROLES).privileges == {View.PRODUCTS: Privilege.UPDATE}


@pytest.mark.parametrize("sentence", REJECTED_USERS)
def test_authorize_in_publisher_admits_global_admin_with_all_privileges(sentence: str) -> None:
    caller = authorize_in_publisher(Caller(ADA, is_global_admin=True), PUBLISHER, REJECTED_USERS[sentence][0], ROLES)
    assert caller.privileges == dict.fromkeys(View, Privilege.DELETE)
    assert caller.is_organization_admin


STRANGER = Caller(ADA)
MEMBER = Caller(ADA, privileges={View.PRODUCTS: Privilege.CREATE})
ORGANIZATION = Caller(ADA, has_organization_admin_flag=True, privileges=dict.fromkeys(View, Privilege.DELETE))
GLOBAL_ADMIN_CALLER = Caller(ADA, is_global_admin=True)
ACCESS_CASES: list[tuple[Access, set[str]]] = [
    (SIGNED_IN, {"stranger", "member", "organization admin", "global admin"}),
    (requires(View.PRODUCTS, Privilege.READ), {"member", "organization admin", "global admin"}),
    (requires(View.PRODUCTS, Privilege.CREATE), {"member", "organization admin", "global admin"}),
    (requires(View.PRODUCTS, Privilege.DELETE), {"organization admin", "global admin"}),
    (requires(View.CUSTOMERS, Privilege.READ), {"organization admin", "global admin"}),
    (ORGANIZATION_ADMIN, {"organization admin", "global admin"}),
    (GLOBAL_ADMIN, {"global admin"}),
    # What no endpoint should ask for, and what opens to nobody by mistake.
    (ANONYMOUS, {"global admin"}),
    (Access(CallerKind.USER), {"global admin"}),
    (Access(CallerKind.USER, View.PRODUCTS), {"global admin"}),
]


@pytest.mark.parametrize(
    ("access", "open_to"), [pytest.param(*token_verifier, id=str(token_verifier[0])) for token_verifier in ACCESS_CASES]
)
def test_check_access_admits_only_callers_with_required_access(access: Access, open_to: set[str]) -> None:
    callers = {
        "stranger": STRANGER,
        "member": MEMBER,
        "organization admin": ORGANIZATION,
        "global admin": GLOBAL_ADMIN_CALLER,
    }
    admitted = set()
    for who, caller in callers.items():
        with suppress(Forbidden):
            check_access(caller, access)
            admitted.add(who)
    assert admitted == open_to
