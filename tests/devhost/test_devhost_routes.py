"""Routes, as ASP.NET Core matches them."""

import pytest

from devhost.errors import StartError
from devhost.routes import RouteTable


def found(templates: list[str], path: str, method: str = "GET") -> tuple[str, dict[str, str]] | None:
    routes: RouteTable[str] = RouteTable()
    for template in templates:
        verb, _, rest = template.rpartition(" ")
        routes.add(rest, [verb] if verb else [], template)
    match = routes.find(path, method)
    return (match.target, match.parameters) if match else None


@pytest.mark.parametrize(
    ("templates", "path", "expected"),
    [
        pytest.param(["a/{x}", "a/b"], "/a/b", ("a/b", {}), id="a literal goes before a parameter"),
        pytest.param(["{x}/b", "a/{*y}"], "/a/b", ("a/{*y}", {"y": "b"}), id="the first segment decides"),
        pytest.param(["{*x}", "{y}"], "/7", ("{y}", {"y": "7"}), id="a catch-all comes last"),
        pytest.param(["a/{x}/c", "a/b/d"], "/a/b/c", ("a/{x}/c", {"x": "b"}), id="a way that leads nowhere is left"),
        pytest.param(["POST a/b", "GET a/{x}"], "/a/b", ("GET a/{x}", {"x": "b"}), id="so it is for the method"),
        pytest.param(["/a/B/"], "/A/b", ("/a/B/", {}), id="case and outer slashes make no difference"),
        pytest.param(["a/{X}"], "/a/Bc", ("a/{X}", {"X": "Bc"}), id="names and values keep their case"),
        pytest.param(["a/{x?}"], "/a", ("a/{x?}", {}), id="an optional parameter may be missing"),
        pytest.param(["a/{x?}"], "/a/", ("a/{x?}", {}), id="or be empty"),
        pytest.param(["a/{x?}"], "/a/7", ("a/{x?}", {"x": "7"}), id="or be there"),
        pytest.param(["a/{x}"], "/a/", None, id="a parameter may not be missing"),
        pytest.param(["a/{x}"], "/a//", None, id="nor be empty"),
        pytest.param(["a/{x}"], "/a/b/c", None, id="nor hold a slash"),
        pytest.param(["a/b"], "/a//b", None, id="an empty segment counts"),
        pytest.param(["a"], "/a//", None, id="two slashes at the end are one too many"),
        pytest.param(["{*x}"], "/", ("{*x}", {}), id="a catch-all catches nothing"),
        pytest.param(["a/{**x}"], "/a/b//c/", ("a/{**x}", {"x": "b//c/"}), id="or everything"),
        pytest.param(["{x}/{y}/{z}"], "/1/2/3", ("{x}/{y}/{z}", {"x": "1", "y": "2", "z": "3"}), id="in order"),
    ],
)
def test_route_table_find_returns_most_specific_match(
    templates: list[str], path: str, expected: tuple[str, dict[str, str]] | None
) -> None:
    assert found(templates, path) == expected
    assert found(templates[::-1], path) == expected, "the order of registration makes no difference"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("GET a/b", "GET a/b", id="two functions on one route"),
        pytest.param("GET a/b", "a/b", id="one that takes every method, and one that takes one"),
        pytest.param("GET a/b", "GET /A/B/", id="routes that differ in case or slashes only"),
        pytest.param("GET a/{x}", "GET a/{y}", id="routes that differ in the names of parameters only"),
        pytest.param("GET {*x}", "GET {**y}", id="two catch-alls"),
        pytest.param("GET a", "GET a/{x?}", id="an optional parameter and its lack"),
    ],
)
def test_route_table_with_conflicting_routes_raises_error_naming_both(one: str, other: str) -> None:
    with pytest.raises(StartError) as caught:
        found([one, other], "/")
    assert one in str(caught.value)
    assert other in str(caught.value)


@pytest.mark.parametrize(
    ("one", "other"),
    [("GET a", "POST a"), ("GET a/b", "GET a/{x}"), ("GET {x}", "GET {*x}")],
)
def test_route_table_accepts_distinct_routes(one: str, other: str) -> None:
    found([one, other], "/")


@pytest.mark.parametrize(
    "template",
    [
        pytest.param("{x:int}", id="a constraint"),
        pytest.param("{x=1}", id="a default"),
        pytest.param("{x}.{y}", id="two parameters in a segment"),
        pytest.param("a{x}", id="a parameter within a literal"),
        pytest.param("{x?}/a", id="something after an optional parameter"),
        pytest.param("{*x}/a", id="something after a catch-all"),
        pytest.param("{x", id="an open brace"),
        pytest.param("x}", id="a closing brace"),
        pytest.param("a//b", id="an empty segment"),
        pytest.param("{}", id="no name"),
    ],
)
def test_route_table_with_unsupported_template_raises_error_naming_it(template: str) -> None:
    with pytest.raises(StartError) as caught:
        found([template], "/")
    assert template in str(caught.value)
