"""Every error of ours: what happened, how a caller tells it apart, and what the reader can do about it.

Only `licensing.http.pipeline` turns an error into a problem document (RFC 9457). The `code` of a class is part of the
wire contract: it never changes its meaning.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field at fault: its path as the caller wrote it, a stable code, and a sentence for a person."""

    field: str
    code: str
    message: str


class LicensingError(Exception):
    """The root of the tree. `detail` is written for the caller, and never holds a secret or an inner name."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internalError"
    title: ClassVar[str] = "Something went wrong on our side: tell support the requestId"

    def __init__(
        self, detail: str, *, errors: Sequence[FieldError] = (), retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after_seconds = retry_after_seconds


class MalformedRequest(LicensingError):
    """The request cannot be read: no valid JSON, a field missing or of the wrong type."""

    status, code, title = 400, "malformedRequest", "The request cannot be read"


class Unauthenticated(LicensingError):
    """There is no access token, or none that counts: whoever asks has to sign in again, or to refresh it (RFC 6750)."""

    status, code, title = 401, "unauthenticated", "Sign in"


class Forbidden(LicensingError):
    """We know who asks, and they may not."""

    status, code, title = 403, "forbidden", "You may not do this"


class NotFound(LicensingError):
    """There is no such thing, or the caller has nothing to do with it."""

    status, code, title = 404, "notFound", "There is nothing here"


class PublisherNotFound(NotFound):
    """No publisher has that publisherId."""

    code, title = "publisherNotFound", "This publisher is not known here"


class MethodNotAllowed(LicensingError):
    """The path exists, this method on it does not."""

    status, code, title = 405, "methodNotAllowed", "This method is not offered here"

    def __init__(self, detail: str, *, allowed: Sequence[str]) -> None:
        super().__init__(detail)
        self.allowed = tuple(allowed)


class Conflict(LicensingError):
    """The change contradicts what is kept."""

    status, code, title = 409, "conflict", "The change contradicts what is kept"


class AlreadyExists(Conflict):
    """A name, serial number or id that must be unique is taken."""

    code, title = "alreadyExists", "This is taken already"


class HasChildren(Conflict):
    """Something that depends on the record stands in the way of its deletion."""

    code, title = "hasChildren", "Other records depend on this one"


class PreconditionFailed(LicensingError):
    """The record has changed since the caller read it."""

    status, code, title = 412, "preconditionFailed", "The record has changed meanwhile"


class BodyTooLarge(LicensingError):
    """The request's body is larger than this path takes."""

    status, code, title = 413, "bodyTooLarge", "The request is too large"


class UnsupportedMediaType(LicensingError):
    """The body is not of a media type that this path takes."""

    status, code, title = 415, "unsupportedMediaType", "The request is not of a type that is read here"


class RuleBroken(LicensingError):
    """The request can be read, but what it asks for breaks a rule of the records."""

    status, code, title = 422, "ruleBroken", "A rule of the records is broken"


class TooManyRequests(LicensingError):
    """The caller asks more often than it may."""

    status, code, title = 429, "tooManyRequests", "Too many requests"


class StorageUnavailable(LicensingError):
    """Table Storage did not answer in time, or answered that it cannot serve now."""

    status, code, title = 503, "storageUnavailable", "The service cannot reach its records right now"


class SignInUnavailable(LicensingError):
    """Who signs people in did not answer, and no key of theirs is known: no access token can be verified now."""

    status, code, title = 503, "signInUnavailable", "Nobody can be signed in right now"


class Busy(LicensingError):
    """Other changes kept coming in between; nothing was changed."""

    status, code, title = 503, "busy", "Too many changes at once"


class Frozen(LicensingError):
    """The operator lets nobody change the publisher's records, to move them; they can be read all the same."""

    status, code, title = 503, "frozen", "These records cannot be changed right now"


class RecordsInconsistent(LicensingError):
    """What is kept contradicts itself. The operator has to fix it; it says nothing about any license."""

    code, title = "recordsInconsistent", "The records contradict each other"


class ConfigurationError(LicensingError):
    """What the operator has set is missing, wrong or unsafe: nothing is served with it."""

    code, title = "configurationError", "The service is not set up"
