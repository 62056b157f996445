"""What an environment sends, parsed into types and bounded (docs/protocol.md).

Members that are not named here are ignored and go nowhere.
"""

from typing import Annotated, Any, Required, Self, TypedDict

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from licensing.errors import FieldError, MalformedRequest
from licensing.identifiers import GUID

MAX_BODY_BYTES = 256 * 1024
MAX_PRODUCTS = 200

# No control characters. Half a surrogate pair is no text at all, which pydantic refuses by itself.
_PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]*$"

type _Name = Annotated[str, Field(min_length=1, max_length=128, pattern=_PRINTABLE)]
type _Detail = Annotated[str, Field(max_length=256, pattern=_PRINTABLE)]


def _counted(products: Any) -> Any:
    """The products, unread. Counted first: else a body full of them would be answered by a fault for each."""
    if not isinstance(products, list):
        raise PydanticCustomError("list_type", "no list")
    if not products:
        raise PydanticCustomError("no_products", "none")
    if len(products) > MAX_PRODUCTS:
        raise PydanticCustomError("too_many_products", "too many")
    return products


class ProductQuery(TypedDict, total=False):
    """One product that the environment asks for. What it may be without is for telemetry only, but for the users."""

    # As it was sent: objects of a class of ours take twice as long to make.
    productName: Required[_Name]
    modelName: _Detail | None
    modelVersion: _Detail | None
    isInstalled: bool | None
    isEnabled: bool | None
    enabledUsersCount: Annotated[int, Field(ge=0, le=10_000_000)] | None


class ValidationRequest(BaseModel):
    """A validation as asked for. `publisher_id` is in lower case."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", alias_generator=to_camel)

    publisher_id: Annotated[str, Field(pattern=rf"^(?i:{GUID})$"), AfterValidator(str.lower)]
    serial_number: _Name
    nonce: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{16,128}$")]
    host_url: Annotated[str, Field(max_length=2048, pattern=_PRINTABLE)] | None = None
    is_production_environment: bool | None = None
    products: Annotated[tuple[ProductQuery, ...], Field(strict=False), BeforeValidator(_counted)]

    @classmethod
    def parse(cls, body: Any) -> Self:
        """The request of this JSON value. Raises MalformedRequest, naming every field at fault."""
        try:
            return cls.model_validate(body)
        except ValidationError as error:
            faults = [_fault(found) for found in error.errors(include_url=False, include_input=False)]
            raise MalformedRequest("Fields of the request are missing or wrong.", errors=faults) from None


def _path(location: tuple[int | str, ...]) -> str:
    """`("products", 0, "productName")` -> `products[0].productName`."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return path.removeprefix(".")


def _fault(found: Any) -> FieldError:
    """What pydantic found, in codes and words of our own: a newer pydantic must not change the contract."""
    code, message = _FAULTS.get(found["type"], ("wrongType", "It is not of the type that it must have."))
    context = found.get("ctx", {})
    if context.get("pattern") == _PRINTABLE:
        code, message = "controlCharacter", "It holds a character that cannot be printed."
    return FieldError(_path(found["loc"]), code, message.format_map(context))


_FAULTS = {
    "missing": ("mandatory", "It is missing."),
    "string_too_short": ("mandatory", "Fill it in."),
    "string_too_long": ("tooLong", "It has {max_length} characters at most."),
    "string_pattern_mismatch": ("malformed", "It is not of the form that it must have."),
    "greater_than_equal": ("outOfRange", "It is {ge} or more."),
    "less_than_equal": ("outOfRange", "It is {le} or less."),
    "no_products": ("mandatory", "Ask for one product at least."),
    "too_many_products": ("tooMany", f"Ask for {MAX_PRODUCTS} products at most."),
}
