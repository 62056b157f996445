// One function app on Flex Consumption, and all its settings: a deployment replaces them all.
param name string
param location string
param tags object
param identityName string
param hostStorageName string
param insightsName string
param vaultName string
param recordsUrl string
param publicUrl string
param supportEmail string
param directoryId string
param apiClientId string
param smtpHost string
param smtpUser string
param mailFrom string
param autoIncidents bool
param instanceMemoryMB int
param maximumInstances int
param requestsPerInstance int
param alwaysReady int
param subnetId string
param frontDoorId string
param moreSettings object

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = {
  name: identityName
}

resource hostStorage 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: hostStorageName
}

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insightsName
}

var secrets = 'https://${vaultName}${environment().suffixes.keyvaultDns}/secrets'
var onlyFrontDoor = [
  {
    name: 'front-door'
    priority: 100
    action: 'Allow'
    tag: 'ServiceTag'
    ipAddress: 'AzureFrontDoor.Backend'
    headers: { 'x-azure-fdid': [frontDoorId] }
  }
]

resource plan 'Microsoft.Web/serverfarms@2025-03-01' = {
  // checkov:skip=CKV_AZURE_225:it doubles the least instances; an instance that dies is made again, in another zone
  name: name
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    tier: 'FlexConsumption'
    name: 'FC1'
  }
  properties: { reserved: true }
}

resource app 'Microsoft.Web/sites@2025-03-01' = {
  // checkov:skip=CKV_AZURE_17:environments have no certificates: what counts is the signature of the reply
  // checkov:skip=CKV_AZURE_212:Flex Consumption counts instances itself: alwaysReady
  // checkov:skip=CKV_AZURE_213:Flex Consumption replaces instances itself, and has no such setting
  // checkov:skip=CKV_AZURE_222:environments come from the internet; with frontDoor only through it
  name: name
  location: location
  tags: tags
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identity.id}': {} }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    clientAffinityEnabled: false
    keyVaultReferenceIdentity: identity.id
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${hostStorage.properties.primaryEndpoints.blob}packages'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identity.id
          }
        }
      }
      runtime: {
        name: 'python'
        version: '3.13'
      }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstances
        alwaysReady: alwaysReady == 0 ? [] : [
          {
            name: 'http'
            instanceCount: alwaysReady
          }
        ]
        triggers: {
          http: { perInstanceConcurrency: requestsPerInstance }
        }
      }
    }
    siteConfig: {
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      ftpsState: 'Disabled'
      http20Enabled: true
      ipSecurityRestrictionsDefaultAction: empty(frontDoorId) ? 'Allow' : 'Deny'
      ipSecurityRestrictions: empty(frontDoorId) ? [] : onlyFrontDoor
    }
  }
}

// moreSettings comes last: it wins. APPLICATIONINSIGHTS_CONNECTION_STRING must not be among them: with it the Functions
// host collects addresses of requests and callers, and customers were promised that nobody does (docs/telemetry.md).
resource settings 'Microsoft.Web/sites/config@2025-03-01' = {
  // checkov:skip=CKV_AZURE_13:these are application settings; the rule is about the site
  // checkov:skip=CKV_AZURE_63:these are application settings; the rule is about the site
  // checkov:skip=CKV_AZURE_65:these are application settings; the rule is about the site
  // checkov:skip=CKV_AZURE_66:these are application settings; the rule is about the site
  // checkov:skip=CKV_AZURE_80:these are application settings; the rule is about the site
  // checkov:skip=CKV_AZURE_88:these are application settings; the rule is about the site
  // checkov:skip=CKV_AZURE_222:these are application settings; the rule is about the site
  parent: app
  name: 'appsettings'
  properties: union({
    AZURE_CLIENT_ID: identity.properties.clientId
    AZURE_TOKEN_CREDENTIALS: 'ManagedIdentityCredential'
    AzureWebJobsStorage__accountName: hostStorage.name
    AzureWebJobsStorage__clientId: identity.properties.clientId
    AzureWebJobsStorage__credential: 'managedidentity'
    FUNCTIONS_REQUEST_BODY_SIZE_LIMIT: '1048576'
    LICENSING_API_CLIENT_ID: apiClientId
    LICENSING_DIRECTORY_ID: directoryId
    LICENSING_MAIL_FROM: mailFrom
    LICENSING_PUBLIC_URL: publicUrl
    LICENSING_SIGNING_KEYS: '@Microsoft.KeyVault(SecretUri=${secrets}/signing-keys)'
    LICENSING_SIGN_IN_AUTHORITY: environment().authentication.loginEndpoint
    LICENSING_SMTP_HOST: smtpHost
    LICENSING_SMTP_PASSWORD: empty(smtpUser) ? '' : '@Microsoft.KeyVault(SecretUri=${secrets}/smtp-password)'
    LICENSING_SMTP_USER: smtpUser
    LICENSING_STORAGE: recordsUrl
    LICENSING_SUPPORT_EMAIL: supportEmail
    LICENSING_TELEMETRY: insights.properties.ConnectionString
    LICENSING_TELEMETRY_AS_IDENTITY: 'true'
    LICENSING_AUTO_INCIDENTS: autoIncidents ? 'true' : 'false'
  }, moreSettings)
}

resource noFtp 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2025-03-01' = {
  parent: app
  name: 'ftp'
  properties: { allow: false }
}

resource noPasswords 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2025-03-01' = {
  parent: app
  name: 'scm'
  properties: { allow: false }
}
