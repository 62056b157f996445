"""The template for Azure, as far as a program without Azure can tell: no compiler is here, and nothing was deployed."""

import json
import re
from dataclasses import fields
from graphlib import TopologicalSorter

import pytest

from licensing.settings import Settings
from tests.infra.bicep import FILES, INFRA, MAIN, REPOSITORY, Bicep, entries, object_of, text

NAMES = [str(file.path.relative_to(INFRA)) for file in FILES]
every_file = pytest.mark.parametrize("file", FILES, ids=NAMES)
main = Bicep(MAIN)
app = Bicep(INFRA / "modules/app.bicep")

# The versions that were looked up. Another one is first looked up, and then written here.
API_VERSIONS = {
    "Microsoft.Authorization/locks": "2020-05-01",
    "Microsoft.Authorization/roleAssignments": "2022-04-01",
    "Microsoft.Cdn/profiles": "2024-02-01",
    "Microsoft.Insights/actionGroups": "2023-01-01",
    "Microsoft.Insights/components": "2020-02-02",
    "Microsoft.Insights/diagnosticSettings": "2021-05-01-preview",
    "Microsoft.Insights/metricAlerts": "2018-03-01",
    "Microsoft.Insights/scheduledQueryRules": "2023-12-01",
    "Microsoft.Insights/webtests": "2022-06-15",
    "Microsoft.Insights/workbooks": "2023-06-01",
    "Microsoft.KeyVault/vaults": "2024-11-01",
    "Microsoft.ManagedIdentity/userAssignedIdentities": "2024-11-30",
    "Microsoft.Network/FrontDoorWebApplicationFirewallPolicies": "2024-02-01",
    "Microsoft.Network/networkSecurityGroups": "2024-05-01",
    "Microsoft.Network/privateDnsZones": "2024-06-01",
    "Microsoft.Network/privateEndpoints": "2024-05-01",
    "Microsoft.Network/virtualNetworks": "2024-05-01",
    "Microsoft.OperationalInsights/workspaces": "2025-07-01",
    "Microsoft.Resources/resourceGroups": "2024-03-01",
    "Microsoft.Storage/storageAccounts": "2025-06-01",
    "Microsoft.Web/serverfarms": "2025-03-01",
    "Microsoft.Web/sites": "2025-03-01",
}
FUNCTIONS = {
    *("base64", "empty", "endsWith", "environment", "guid", "length", "loadTextContent", "resourceGroup"),
    *("subscription", "subscriptionResourceId", "toLower", "union", "uniqueString"),
    *("allowed", "description", "maxLength", "maxValue", "minLength", "minValue"),
}


@every_file
def test_bicep_file_parses_without_errors(file: Bicep) -> None:
    assert file.faults == []
    assert any(file.declared.values())


@every_file
def test_bicep_file_uses_exactly_its_declared_symbols(file: Bicep) -> None:
    named = file.references(file.root)
    assert named - file.symbols == set()
    unused = {*file.declared["parameter"], *file.declared["variable"]} - named
    assert unused == set()
    assert file.functions <= FUNCTIONS


@every_file
def test_bicep_module_parameters_match_declaration(file: Bicep) -> None:
    for symbol, node in file.declared["module"].items():
        module = file.module_file(symbol)
        assert module.path.is_file(), module.path
        given = set(entries(entries(object_of(node))["params"]))
        assert module.mandatory <= given <= set(module.declared["parameter"]), symbol


@every_file
def test_bicep_outputs_that_are_read_exist(file: Bicep) -> None:
    for symbol, output in file.outputs_used():
        assert output in file.module_file(symbol).declared["output"], f"{symbol}.{output}"


@every_file
def test_bicep_declarations_have_no_circular_dependency(file: Bicep) -> None:
    waits = {
        symbol: file.references(node) - {symbol}
        for kind in ("variable", "resource", "module")
        for symbol, node in file.declared[kind].items()
    }
    assert list(TopologicalSorter(waits).static_order())


def test_bicep_module_files_are_all_used() -> None:
    used = {file.module_file(symbol).path for file in FILES for symbol in file.declared["module"]}
    assert used == {file.path for file in FILES} - {MAIN}


def test_bicep_resources_use_verified_api_versions() -> None:
    found = {("/".join(kind.split("/")[:2]), version) for file in FILES for kind, version in file.resource_types}
    assert found == set(API_VERSIONS.items())


def test_bicep_loaded_files_are_json() -> None:
    loaded = [
        (file.path.parent / name).resolve()
        for file in FILES
        for name in re.findall(r"loadTextContent\('([^']+)'\)", text(file.root))
    ]
    assert loaded
    for path in loaded:
        assert json.loads(path.read_text("utf-8"))["items"]


# Settings.

FORBIDDEN_ON_FLEX = {
    *("FUNCTIONS_WORKER_RUNTIME", "FUNCTIONS_EXTENSION_VERSION", "WEBSITE_RUN_FROM_PACKAGE"),
    *("SCM_DO_BUILD_DURING_DEPLOYMENT", "ENABLE_ORYX_BUILD", "WEBSITE_TIME_ZONE", "AzureWebJobsStorage"),
    *("WEBSITE_CONTENTAZUREFILECONNECTIONSTRING", "WEBSITE_CONTENTSHARE", "FUNCTIONS_WORKER_PROCESS_COUNT"),
}
# Not LICENSING_, and needed by whoever reads it.
OF_THE_PLATFORM = {
    "AZURE_CLIENT_ID": "which of the app's identities is meant",
    "AZURE_TOKEN_CREDENTIALS": "nothing but the identity is tried",
    "AzureWebJobsStorage__accountName": "the host's storage, without a key",
    "AzureWebJobsStorage__clientId": "by this identity",
    "AzureWebJobsStorage__credential": "as an identity",
    "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT": "the host refuses large bodies before it holds them",
}
TUNING = "its default serves; moreSettings changes it"
NOT_NEEDED = {
    "LICENSING_CACHED_ENVIRONMENTS": TUNING,
    "LICENSING_MAX_STALE_HOURS": TUNING,
    "LICENSING_MAIL_FOLDER": "for local use",
    "LICENSING_MESSAGES_PER_MINUTE": TUNING,
    "LICENSING_NOTICES_SCHEDULE": TUNING,
    "LICENSING_PUBLISHER_STORAGE": "for publishers with an account of their own: through moreSettings",
    "LICENSING_REFRESH_AFTER_HOURS": TUNING,
    "LICENSING_REPLY_DAYS": TUNING,
    "LICENSING_SIGNING_KEYS_FOLDER": "for local use",
    "LICENSING_SMTP_PORT": TUNING,
    "LICENSING_SMTP_SECURITY": TUNING,
    "LICENSING_STORAGE_TABLE": "the template makes the table of the default name",
    "LICENSING_STORAGE_TIMEOUT_SECONDS": TUNING,
    "LICENSING_SUBSCRIPTION_MAILS_PER_HOUR": TUNING,
    "LICENSING_TELEMETRY_CONSOLE": "for local use",
    "LICENSING_NON_PRODUCTION_HOSTS": TUNING,
    "LICENSING_TRACES_PER_SECOND": TUNING,
    "LICENSING_VALIDATIONS_PER_MINUTE": TUNING,
    "LICENSING_VERSION_READ_INTERVAL_MS": TUNING,
}


def settings_of_the_app() -> dict[str, str]:
    merged = entries(object_of(app.declared["resource"]["settings"]))["properties"]
    return {name: text(node) for name, node in entries(object_of(merged)).items()}


def test_template_contains_every_setting_or_documents_omission() -> None:
    known = {setting.metadata["name"] for setting in fields(Settings)}
    ours = {name for name in settings_of_the_app() if name.startswith("LICENSING_")}
    assert known - ours - set(NOT_NEEDED) == set(), "put it into modules/app.bicep, or say here why not"
    assert ours <= known
    assert set(NOT_NEEDED) <= known - ours


def test_platform_settings_are_complete_and_allowed_on_flex_consumption() -> None:
    theirs = {name for name in settings_of_the_app() if not name.startswith("LICENSING_")}
    assert theirs == set(OF_THE_PLATFORM)
    assert theirs.isdisjoint(FORBIDDEN_ON_FLEX)
    assert settings_of_the_app()["FUNCTIONS_REQUEST_BODY_SIZE_LIMIT"] == "'1048576'"
    assert settings_of_the_app()["AZURE_TOKEN_CREDENTIALS"] == "'ManagedIdentityCredential'"


def test_app_settings_are_declared_in_one_place() -> None:
    assert "appSettings" not in text(app.root)
    assert [text(app.root).count(each) for each in ("'appsettings'", "moreSettings)")] == [1, 1]


def test_template_secrets_come_only_from_key_vault() -> None:
    settings = settings_of_the_app()
    for name in ("LICENSING_SIGNING_KEYS", "LICENSING_SMTP_PASSWORD"):
        assert "@Microsoft.KeyVault(SecretUri=${secrets}/" in settings[name]
    everything = "\n".join(text(file.root) for file in FILES)
    assert not re.search(r"list\w*\(|@secure|vaults/secrets", everything)
    assert not re.search(r"password|secret|key", " ".join(main.declared["parameter"]), re.IGNORECASE)


def test_template_outputs_match_expected_and_contain_no_secret() -> None:
    assert set(main.declared["output"]) == {
        *("AZURE_RESOURCE_GROUP", "APP_NAME", "SECOND_APP_NAME", "VAULT_NAME"),
        *("PUBLIC_URL", "RECORDS_URL", "FRONT_DOOR_HOST"),
    }
    read = {output for file in FILES for output in file.declared["output"]}
    assert not re.search(r"password|secret|key|connection", " ".join(read), re.IGNORECASE)


def test_template_table_name_matches_default_setting() -> None:
    (table,) = (node for each in FILES for node in [each.declared["resource"].get("catalogue")] if node)
    assert text(entries(object_of(table))["name"]).strip("'") == Settings().storage_table


@pytest.mark.parametrize(
    ("name", "promise"),
    [
        ("modules/records.bicep", "allowSharedKeyAccess: false"),
        ("modules/records.bicep", "allowBlobPublicAccess: false"),
        ("modules/records.bicep", "minimumTlsVersion: 'TLS1_2'"),
        ("modules/records.bicep", "deleteRetentionPolicy: { enabled: true"),
        ("modules/host-storage.bicep", "allowSharedKeyAccess: false"),
        ("modules/host-storage.bicep", "allowBlobPublicAccess: false"),
        ("modules/host-storage.bicep", "minimumTlsVersion: 'TLS1_2'"),
        ("modules/vault.bicep", "enableRbacAuthorization: true"),
        ("modules/vault.bicep", "enablePurgeProtection: true"),
        ("modules/monitoring.bicep", "DisableLocalAuth: true"),
        ("modules/monitoring.bicep", "dailyQuotaGb: dailyLogsGB"),
        ("modules/app.bicep", "name: 'FC1'"),
        ("modules/app.bicep", "version: '3.13'"),
        ("modules/app.bicep", "http: { perInstanceConcurrency: requestsPerInstance }"),
        ("modules/app.bicep", "keyVaultReferenceIdentity: identity.id"),
        ("modules/app.bicep", "httpsOnly: true"),
    ],
)
def test_template_contains_promised_property(name: str, promise: str) -> None:
    assert promise in (INFRA / name).read_text("utf-8")


# Roles: what needs each is found in the template itself.

TABLES = "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3"  # Storage Table Data Contributor
ROLES = {
    "app-writes-records": (TABLES, "accountName", "records", "LICENSING_STORAGE: recordsUrl"),
    "app-runs-on-host-storage": (
        "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",  # Storage Blob Data Owner
        *("accountName", "hostStorage", "AzureWebJobsStorage__credential: 'managedidentity'"),
    ),
    "host-tells-what-failed": (TABLES, "accountName", "hostStorage", "AzureWebJobsStorage__accountName"),
    "app-reads-secrets": (
        "4633458b-17de-408a-b874-0445c86b69e6",  # Key Vault Secrets User
        *("vaultName", "vault", "@Microsoft.KeyVault(SecretUri=${secrets}/signing-keys)"),
    ),
    "app-sends-telemetry": (
        "3913510d-42f4-4e42-8a64-420c390055eb",  # Monitoring Metrics Publisher
        *("insightsName", "monitoring", "LICENSING_TELEMETRY_AS_IDENTITY: 'true'"),
    ),
    "operator-sets-secrets": (
        "b86a8fe4-44ce-4948-aee5-eccb2c155cd7",  # Key Vault Secrets Officer
        *("vaultName", "vault", "az keyvault secret set"),
    ),
    "operator-keeps-records": (TABLES, "accountName", "records", "LICENSING_STORAGE: recordsUrl"),
}


def test_every_role_has_commented_bicep_file() -> None:
    files = {path.stem: path.read_text("utf-8") for path in (INFRA / "roles").glob("*.bicep")}
    assert set(files) == set(ROLES)
    assert all(content.startswith("// ") for content in files.values())
    outside = [
        file.path.name for file in FILES if file.path.parent.name != "roles" and "roleAssignments" in text(file.root)
    ]
    assert outside == []


@pytest.mark.parametrize("name", ROLES)
def test_role_assignment_is_minimal_needed_and_correctly_scoped(name: str) -> None:
    role, parameter, of, need = ROLES[name]
    file = Bicep(INFRA / f"roles/{name}.bicep")
    assert re.findall(r"'([0-9a-f-]{36})'", text(file.root)) == [role]
    assert need in text(app.root) + (INFRA / "make-signing-keys.sh").read_text("utf-8")
    given = [
        entries(entries(object_of(node))["params"])
        for symbol, node in main.declared["module"].items()
        if main.module_file(symbol).path == file.path
    ]
    assert text(given[0][parameter]).startswith(f"{of}.outputs.")
    who = "operatorId" if name.startswith("operator-") else "identity.outputs.principalId"
    assert {text(each["principalId"]) for each in given} == {who}


def test_apps_depend_on_all_their_roles() -> None:
    for symbol in ("app", "secondApp"):
        waits = main.references(entries(object_of(main.declared["module"][symbol]))["dependsOn"])
        files = {main.module_file(each).path.stem for each in waits}
        assert {name for name in ROLES if not name.startswith("operator-")} <= files


# What a reader needs.


def test_parameter_file_contains_mandatory_and_only_existing_parameters() -> None:
    given = json.loads((INFRA / "main.parameters.json").read_text("utf-8"))["parameters"]
    assert main.mandatory <= set(given) <= set(main.declared["parameter"])


def test_infra_readme_describes_every_parameter_with_default() -> None:
    told = (INFRA / "README.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", told, re.MULTILINE))
    assert list(rows) == list(main.declared["parameter"])
    for name, node in main.declared["parameter"].items():
        default = text(node).rpartition(" = ")[2].strip("'") if name not in main.mandatory else ""
        if default and default not in ("{}", "supportEmail"):
            assert f"`{default}`" in rows[name], name


def test_azure_yaml_deploys_function_app_with_executable_hook() -> None:
    told = (REPOSITORY / "azure.yaml").read_text("utf-8")
    assert "host: function" in told
    assert "'azd-service-name': 'app'" in MAIN.read_text("utf-8")
    (hook,) = re.findall(r"run: (\S+)", told)
    assert (REPOSITORY / hook).stat().st_mode & 0o111
