"""The X++ sources, which nothing here can compile: their form, the names they use, where they reach the network."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
FOLDER = REPOSITORY / "clients/xpp"
FILES = sorted(FOLDER.glob("*/*/*.xml"))
MEMBER = re.compile(r"\.(\w+)(\()?")
KERNEL = {"clear", "insert", "write", "selectForUpdate", "concurrencyModel", "setTmpData", "RecId"}
"""What every table has."""

RESERVED_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
    abstract anytype as asc at avg boolean break breakpoint by byref case catch class client const container continue
    count date default delegate delete_from desc display div do edit else enum event exists extends false final finally
    firstfast firstonly flush for forupdate from group guid if implements in index insert_recordset int int64 interface
    internal is join like maxof minof mod new next nofetch notexists null optimisticlock order outer pause
    pessimisticlock print private protected public readonly real repeatableread retry return reverse select server
    setting static str sum super switch tablelock this throw timeofday true try ttsabort ttsbegin ttscommit unchecked
    update_recordset using utcdatetime validtimestate void where while window
    """,
    )
)
"""Of X++, by Microsoft's reference of its syntax."""


class Method(NamedTuple):
    owner: str
    name: str
    source: str
    """Without comments, and with empty literals."""


@dataclass
class Type:
    """What has a name in X++ or C#: its members, each with the type that it gives."""

    members: dict[str, str] = field(default_factory=dict)
    constructors: list[str] = field(default_factory=list)
    inherits: bool = False
    """From the platform: then its members are not all known."""


def bare(source: str) -> str:
    return re.sub(r"'[^'\n]*'|\"[^\"\n]*\"|//[^\n]*", lambda found: "" if found[0][0] == "/" else "''", source)


def local(element: ET.Element) -> str:
    return element.tag.partition("}")[2] or element.tag


def texts(root: ET.Element, tag: str) -> list[str]:
    return [each.text or "" for each in root.iter() if local(each) == tag]


def methods_of(path: Path) -> Iterator[Method]:
    root = ET.parse(path).getroot()
    for method in root.iter():
        if local(method) == "Method":
            (name,), (source,) = texts(method, "Name"), texts(method, "Source")
            yield Method(path.stem, name, bare(source))


ALL_METHODS = [method for path in FILES for method in methods_of(path)]


def xpp_types() -> dict[str, Type]:
    found: dict[str, Type] = {}
    for path in FILES:
        root = ET.parse(path).getroot()
        it = found.setdefault(path.stem.partition(".")[0], Type())
        if path.parent.name in {"AxEnum", "AxEnumExtension"}:
            it.members |= {name: "" for value in root.iter("AxEnumValue") for name in texts(value, "Name")}
        if path.parent.name == "AxTable":
            it.members |= dict.fromkeys(KERNEL, "")
            it.members |= {name: "" for value in root.iter("AxTableField") for name in texts(value, "Name")}
        for declaration in texts(root, "Declaration"):
            it.inherits = " extends SysOperation" in declaration
            it.members |= {
                name: kind
                for kind, name in re.findall(r"(?:public|private) (?:const )?(\w+) (\w+)(?= =|;)", declaration)
            }
        for method in methods_of(path):
            signature = re.search(rf"([\w.\[\]]+) {method.name}\(", method.source)
            if signature:
                it.members[method.name] = signature[1]
    return found


def csharp_types() -> dict[str, Type]:
    found: dict[str, Type] = {}
    for path in (REPOSITORY / "clients/dotnet").glob("*.cs"):
        text = bare(path.read_text("utf-8-sig"))
        declared = re.search(r"public (?:sealed |static )?(class|enum|interface) (\w+)", text)
        if not declared:
            continue
        kind, name = declared.groups()
        it = found.setdefault(name, Type())
        if kind == "enum":
            it.members |= dict.fromkeys(re.findall(r"^\s+(\w+),?$", text, re.MULTILINE), "")
        scope = r"^\s+" if kind == "interface" else r"^\s+public (?:static |async |override )*"
        for gives, member in re.findall(rf"{scope}([\w<>\[\]?]+) (\w+)(?=\(| \{{|\s*$)", text, re.MULTILINE):
            it.members[member] = gives
        it.constructors += re.findall(rf"public {name}\(([^)]*)\)", text)
    return found


XPP, CSHARP = xpp_types(), csharp_types()
TYPES = CSHARP | XPP


def closing(text: str, start: int) -> int:
    """Where the bracket that opens at `start` closes."""
    depth = 0
    for index in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if depth == 0:
            return index
    raise AssertionError(text[start:])


def used(source: str) -> Iterator[tuple[str, str]]:
    """Each member that the source names, and what it is a member of: along `a.b(c).d`, as far as types are known."""
    variables = dict[str, str]()
    for kind, name in re.findall(r"\b([A-Z]\w+) (\w+)(?=\s*[=;,)])", source):
        variables[name] = kind
    bases: list[tuple[int, str]] = []
    for found in re.finditer(r"\b(\w+)::(\w+)(\()?", source):
        if found[1] in TYPES:
            yield found[1], found[2]
            end = closing(source, found.end() - 1) + 1 if found[3] else found.end()
            bases.append((end, TYPES[found[1]].members.get(found[2], "")))
    # A table's buffer on a form bears the table's own name.
    bases += [
        (found.end(), variables.get(found[1], found[1]))
        for found in re.finditer(r"(?<![.\w:])(\w+)(?=\.\w)", source)
        if variables.get(found[1], found[1]) in TYPES
    ]
    for end, kind in bases:
        position, owner = end, kind
        while owner in TYPES and (step := MEMBER.match(source, position)):
            if step[1] != "ToString":
                yield owner, step[1]
            owner = TYPES[owner].members.get(step[1], "")
            position = closing(source, step.end() - 1) + 1 if step[2] else step.end()


def called(source: str) -> set[str]:
    return {f"{owner}.{name}" for owner, name in re.findall(r"\b(\w+)::(\w+)\(", source)}


def network_methods() -> set[str]:
    """The methods that wait for it: those that ask the library's client to, and whoever calls them."""
    asks = {("LicenseClient", "Validate"), ("LicenseClient", "ValidateAsync")}
    reaching = {f"{each.owner}.{each.name}" for each in ALL_METHODS if asks & set(used(each.source))}
    while more := {f"{each.owner}.{each.name}" for each in ALL_METHODS if called(each.source) & reaching} - reaching:
        reaching |= more
    return reaching


NETWORK_METHODS = network_methods()


# Form.


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_xpp_file_content_matches_folder_and_name(path: Path) -> None:
    root = ET.parse(path).getroot()
    assert local(root) == path.parent.name
    assert next(each.text for each in root if local(each) == "Name") == path.stem
    text = path.read_text("utf-8")
    if declared := re.search(r"^(?:\w+ )*class (\w+)", text, re.MULTILINE):
        assert declared[1] == path.stem
        assert "Not compiled by this project" in text
    for method in methods_of(path):
        declares = rf"\b{method.name}\(" if method.name != "classDeclaration" else f"class {path.stem}"
        assert re.search(declares, method.source), method.name
        assert method.source.count("{") == method.source.count("}"), method.name


def test_xpp_menu_items_and_buttons_reference_existing_objects() -> None:
    items = {path.stem for path in FILES if path.parent.name.startswith("AxMenuItem")}
    for path in FILES:
        root = ET.parse(path).getroot()
        if path.stem in items and path.parent.name.startswith("AxMenuItem"):
            (target,) = texts(root, "Object")
            assert target in XPP
            if path.parent.name == "AxMenuItemAction":
                assert "main" in XPP[target].members
        assert set(texts(root, "MenuItemName")) <= items
        assert {name for name in texts(root, "Table") if name} <= XPP.keys()


# Names.


def test_xpp_member_references_exist_in_library_or_xpp_sources() -> None:
    seen = {pair for method in ALL_METHODS for pair in used(method.source)}
    missing = [
        f"{owner}.{member}"
        for owner, member in sorted(seen)
        if member not in TYPES[owner].members and not TYPES[owner].inherits
    ]
    assert not missing
    # And the search finds them: along a chain, behind a call, of an enum, of a table.
    for pair in (
        "LicenseClient.Validate",
        "LicenseState.GetProduct",
        "LicenseAction.Disable",
        "StoredLicense.LatestIssuedAt",
        "LicenseCheckResult.Message",
    ):
        assert tuple(pair.split(".")) in seen, pair


def test_xpp_uses_no_library_member_of_nullable_type() -> None:
    nullable = {(owner, name) for owner, it in CSHARP.items() for name, gives in it.members.items() if "?" in gives}
    assert ("ProductLicense", "EndDate") in nullable
    assert not nullable & {pair for method in ALL_METHODS for pair in used(method.source)}


def test_xpp_constructor_calls_match_library_signatures() -> None:
    made = 0
    for method in ALL_METHODS:
        for found in re.finditer(r"\bnew (\w+)\(", method.source):
            if found[1] in CSHARP:
                made += 1
                given = method.source[found.end() : closing(method.source, found.end() - 1)]
                takes = [
                    len([each for each in text.split(",") if each.strip()]) for text in CSHARP[found[1]].constructors
                ]
                assert arguments(given) in (takes or [0]), found[0]
    assert made >= 5


def arguments(text: str) -> int:
    depth, count = 0, 1 if text.strip() else 0
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        count += character == "," and depth == 0
    return count


def test_xpp_license_store_loads_and_saves_all_stored_license_members() -> None:
    assert CSHARP["ILicenseStore"].members == XPP["LicManStore"].members == {"Load": "StoredLicense", "Save": "void"}
    (load,) = [each for each in ALL_METHODS if (each.owner, each.name) == ("LicManStore", "Load")]
    (save,) = [each for each in ALL_METHODS if (each.owner, each.name) == ("LicManStore", "Save")]
    kept = CSHARP["StoredLicense"].members.keys()
    assert {member for owner, member in used(load.source) if owner == "StoredLicense"} == kept
    assert {member for owner, member in used(save.source) if owner == "StoredLicense"} == kept


def test_xpp_names_are_no_reserved_words() -> None:
    """X++ compares its reserved words without regard to case: a member of C# named For cannot be called."""
    names = {member for method in ALL_METHODS for owner, member in used(method.source) if owner in CSHARP}
    for method in ALL_METHODS:
        names |= {name for kind, name in re.findall(r"([\w\]]+) (\w+)(?=\s*[=;,)])", method.source) if kind != "return"}
    assert {"GetProduct", "_product"} <= names
    assert not {name for name in names if name.lower() in RESERVED_WORDS}


# The network.


def test_xpp_network_calls_are_limited_to_check_job_and_button() -> None:
    assert sorted(NETWORK_METHODS) == [
        "LicManCheck.refreshIfDue",
        "LicManCheck.validate",
        "LicManDailyCheckService.run",
        "LicManValidate.main",
    ]


def test_xpp_forms_tables_and_event_handlers_make_no_network_calls() -> None:
    on_load = [
        each
        for each in ALL_METHODS
        if (FOLDER / "LicMan/AxForm" / f"{each.owner}.xml").exists()
        or (FOLDER / "LicMan/AxTable" / f"{each.owner}.xml").exists()
        or "EventHandler(" in each.source
        or each.owner == "LicManGate"
    ]
    assert {"LicManLicenses.run", "SampleForms.exchangeRateInitialized"} <= {f"{m.owner}.{m.name}" for m in on_load}
    for each in on_load:
        assert not called(each.source) & NETWORK_METHODS, each


def test_xpp_transactions_make_no_network_calls() -> None:
    held = [
        (each, block)
        for each in ALL_METHODS
        for block in re.findall(r"\bttsbegin\b(.*?)\bttscommit\b", each.source, re.DOTALL)
    ]
    assert held
    for each, block in held:
        assert not called(block) & NETWORK_METHODS, each
    (validate,) = [each for each in ALL_METHODS if (each.owner, each.name) == ("LicManCheck", "validate")]
    assert re.search(r"ttsLevel\(\) != 0\)\s*\{\s*throw .*licenseClient\.Validate", validate.source, re.DOTALL)


def test_xpp_refresh_begins_under_lock_before_validation() -> None:
    check = {each.name: each.source for each in ALL_METHODS if each.owner == "LicManCheck"}
    assert re.search(r"if \(LicManCheck::tryBeginRefresh\(\)\)\s*\{\s*LicManCheck::validate", check["refreshIfDue"])
    held = r"ttsbegin;\s*LicManStored::find\(true\);\s*begun = .*\.TryBeginRefresh\(.*;\s*ttscommit;"
    assert re.search(held, check["tryBeginRefresh"])


def test_xpp_gate_when_license_check_fails_allows_feature() -> None:
    gate = {each.name: each.source for each in ALL_METHODS if each.owner == "LicManGate"}
    assert re.search(r"try\s*\{\s*state = LicManCheck::stateOf\(_product\);\s*\}\s*catch \(fault\)", gate["state"])
    assert "state == null || " in gate["isAllowed"]
    assert "if (state != null)" in gate["prompt"]
    assert not any("LicManCheck.state" in called(source) for source in gate.values())
    assert [name for name, source in gate.items() if "LicManCheck.stateOf" in called(source)] == ["state"]


def test_xpp_gate_calls_only_get_state_or_prompt_of_library() -> None:
    (state_of,) = [each.source for each in ALL_METHODS if (each.owner, each.name) == ("LicManCheck", "stateOf")]
    assert set(re.findall(r"\bnew (\w+)\(", state_of)) == {"LicManStore"}
    assert {member for owner, member in used(state_of) if owner in CSHARP} == {"GetStateOrPrompt"}


# The promise.


def test_xpp_validation_request_contains_only_documented_fields() -> None:
    (request,) = [each for each in ALL_METHODS if (each.owner, each.name) == ("LicManCheck", "request")]
    sent = re.findall(r"\b(?:usage|request)\.(?:Set(?=\w+\()|(?=\w+ =))(\w+)", request.source)
    assert sent == [
        "HostUrl",
        "IsProductionEnvironment",
        "ModelName",
        "ModelVersion",
        "IsInstalled",
        "IsEnabled",
        "EnabledUsersCount",
    ]
    assert re.search(
        r"if \(LicManPublisher::SendsUsersCount && .*\)\s*\{\s*usage\.SetEnabledUsersCount\([^}]*\}", request.source
    )
    assert "SendsUsersCount = false;" in (FOLDER / "LicMan/AxClass/LicManPublisher.xml").read_text("utf-8")


# The README.


def test_xpp_readme_lists_all_source_files() -> None:
    named = set(re.findall(r"`((?:LicMan|Sample)/[^`]+\.xml)`", (FOLDER / "README.md").read_text("utf-8")))
    assert named == {str(path.relative_to(FOLDER)) for path in FILES}


def test_xpp_readme_rename_script_replaces_prefix_everywhere(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(FOLDER, copy)
    text = (FOLDER / "README.md").read_text("utf-8")
    (block,) = re.findall(r"<!-- A test runs this .*? -->\n +```bash\n(.*?)```", text, re.DOTALL)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block], cwd=copy, capture_output=True, text=True, check=False, env=environ()
    )
    assert done.returncode == 0, done.stderr
    files = {str(path.relative_to(copy)): path.read_text("utf-8") for path in copy.glob("*/*/*.xml")}
    assert files == {
        str(path.relative_to(FOLDER)).replace("LicMan", "WwaLic"): path.read_text("utf-8").replace("LicMan", "WwaLic")
        for path in FILES
    }


def environ() -> Mapping[str, str]:
    return {"PATH": os.environ["PATH"]}
