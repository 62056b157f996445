"""Who comes in: an access token in, a caller out, or an error that says what to do."""

import time
from contextlib import suppress
from dataclasses import dataclass, field, replace

from licensing.access.model import authorize_in_publisher, belongs_to_directory, caller_of, find_user
from licensing.access.tokens import TokenVerifier
from licensing.catalogue.publisher_cache import PublisherCache
from licensing.catalogue.records import Publisher, Role, User
from licensing.catalogue.service import Catalogue
from licensing.errors import Forbidden, PublisherNotFound, StorageUnavailable
from licensing.http.permissions import Access, Caller, check_access
from licensing.identifiers import is_guid
from licensing.storage.coalesced_read import CoalescedRead

_REFRESH_INTERVAL_SECONDS = 10.0
"""How often a directory that is no publisher's makes us look whether it has become one's."""


@dataclass(frozen=True, slots=True)
class Membership:
    """A publisher that a caller has to do with, and as what."""

    publisher: Publisher
    caller: Caller


@dataclass(kw_only=True)
class Authenticator:
    """Admits callers. Belongs to one event loop."""

    own_directory_id: str
    verifier: TokenVerifier
    catalogue: Catalogue
    publisher_cache: PublisherCache
    wait_seconds: float
    """How long a caller waits while it is looked up whether a directory has become a publisher's."""
    _directories: frozenset[str] = frozenset()
    _refreshed_at: float = field(default=float("-inf"))
    _refreshes: CoalescedRead[None] = field(init=False)

    def __post_init__(self) -> None:
        self._refreshes = CoalescedRead(
            self._refresh_directories, min_interval_seconds=0, timeout_seconds=self.wait_seconds
        )

    async def authenticate(self, access: Access, authorization: str | None, publisher_id: str | None) -> Caller:
        """Return the caller, who has the required access.

        Raises Unauthenticated, Forbidden, and PublisherNotFound where the caller has nothing to do with the publisher.
        """
        identity = await self.verifier.verify(authorization, self._is_trusted)
        caller = caller_of(identity, self.own_directory_id)
        if publisher_id is not None:
            caller = await self._authorize_in_publisher(caller, publisher_id.lower())
        check_access(caller, access)
        return caller

    async def memberships(self, caller: Caller) -> list[Membership]:
        """The publishers that the caller has to do with, by name."""
        if caller.is_global_admin:
            every = await self.catalogue.publishers()
            found = [Membership(each, authorize_in_publisher(caller, each, None, {})) for each in every]
        else:
            directory_id = caller.identity.directory_id
            # A publisher that names no directory is at home in the service's own.
            homes = {directory_id, ""} if directory_id == self.own_directory_id else {directory_id}
            found = []
            for publisher in await self.catalogue.publishers(homes):
                with suppress(PublisherNotFound, Forbidden):
                    found.append(Membership(publisher, await self._authorize_in_publisher(caller, publisher.id)))
        return sorted(found, key=lambda each: each.publisher.position)

    async def _authorize_in_publisher(self, caller: Caller, publisher_id: str) -> Caller:
        if not is_guid(publisher_id):
            raise PublisherNotFound("No publisher of this id is known here. Check the publisherId.")
        publishers, users, roles = await self.publisher_cache.several(publisher_id, Publisher, User, Role)
        publisher = publishers[publisher_id]
        in_directory = belongs_to_directory(caller.identity, publisher, self.own_directory_id)
        user = find_user(caller.identity, users.values()) if in_directory else None
        caller = authorize_in_publisher(caller, publisher, user, roles)
        if user is not None and not user.identity and not caller.is_global_admin:
            # Meanwhile the user may have been given to somebody else.
            user = find_user(caller.identity, [await self._bound(publisher_id, user, caller)])
            caller = authorize_in_publisher(caller, publisher, user, roles)
        return caller

    async def _bound(self, publisher_id: str, user: User, caller: Caller) -> User:
        """From now on nobody else is this user: addresses are given to other people, object ids never are."""

        def bind(before: User) -> User:
            is_free = not before.identity and before.is_named_as(user)
            return replace(before, identity=caller.identity.key) if is_free else before

        return await self.catalogue.update(publisher_id, User, user.id, bind, actor=caller.actor)

    async def _is_trusted(self, directory_id: str) -> bool:
        """Whether tokens of that directory are looked at: the service's own, and those of its publishers."""
        if directory_id in {self.own_directory_id, *self._directories}:
            return True
        if time.monotonic() - self._refreshed_at > _REFRESH_INTERVAL_SECONDS:
            # Whoever comes while we look waits too: to be told to sign in again would be wrong.
            try:
                await self._refreshes.get()
            except TimeoutError:
                raise StorageUnavailable(
                    "Who may sign in cannot be read right now: try again in a moment, with the same token.",
                    retry_after_seconds=5,
                ) from None
        return directory_id in self._directories

    async def _refresh_directories(self) -> None:
        self._directories = await self.catalogue.directories()
        self._refreshed_at = time.monotonic()
