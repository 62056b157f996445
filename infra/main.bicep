// Everything of one license server: infra/README.md says what each parameter costs and decides.
targetScope = 'subscription'

@description('The name of this deployment, as test or production. azd asks for it.')
@minLength(1)
@maxLength(20)
param environmentName string

@description('The Azure region. It must offer Flex Consumption.')
param location string

@description('Whose address stands in replies of publishers that name none of their own.')
param supportEmail string

@description('Who is mailed when an alert fires.')
param alertEmail string = supportEmail

@description('Who puts secrets into the vault and keeps records with the operator commands: the object id of a person or group. azd gives that of whoever runs it. Empty: nobody yet.')
param operatorId string = ''

@description('What operatorId is.')
@allowed(['User', 'Group', 'ServicePrincipal'])
param operatorType string = 'User'

@description('The Entra directory that the own people sign in with. Empty: no sign-in, validations only.')
param directoryId string = ''

@description('The client id of the app registration of the API.')
param apiClientId string = ''

@description('The server that mail is handed to. Empty: no mail.')
param smtpHost string = ''

@description('Who signs in at that server. Its password is the secret smtp-password of the vault. Empty: nobody does.')
param smtpUser string = ''

@description('The address that mail comes from.')
param mailFrom string = 'no-reply@example.com'

@description('Memory of an instance, in MB.')
@allowed([512, 2048, 4096])
param instanceMemoryMB int = 2048

@description('The most instances there may be: it bounds the bill.')
@minValue(1)
@maxValue(1000)
param maximumInstances int = 40

@description('How many requests an instance serves at once.')
@minValue(1)
@maxValue(1000)
param requestsPerInstance int = 32

@description('Instances that are always up for HTTP. 0 saves money, and lets the first validation wait for a start.')
@minValue(0)
@maxValue(20)
param alwaysReady int = 1

@description('How the records are copied: ZRS over zones, GRS kinds to another region too. A second region needs a RA kind.')
@allowed(['Standard_LRS', 'Standard_ZRS', 'Standard_RAGRS', 'Standard_RAGZRS'])
param recordsRedundancy string = 'Standard_ZRS'

@description('Sets the lock on the records, which takes an Owner. false leaves a lock that is there.')
param lockRecords bool = true

@description('A region with a second app, which validates from the copy of the records there. Empty: none.')
param secondLocation string = ''

@description('Keeps storage and vault off the internet: a virtual network with private endpoints.')
param privateNetwork bool = false

@description('Front Door with a web application firewall before the app.')
param frontDoor bool = false

@description('A DNS name of your own that callers use, as licensing.example.com; needs frontDoor. It can be pointed elsewhere in an outage.')
param customDomain string = ''

@description('The most that Log Analytics takes in a day, in GB.')
@minValue(1)
param dailyLogsGB int = 1

@description('For how many days logs are kept.')
@minValue(30)
@maxValue(730)
param logDays int = 90

@description('The publisher, serial number and product that the availability test asks for. Without a publisher it looks at the health.')
param probePublisherId string = ''
param probeSerialNumber string = 'AVAILABILITY-TEST'
param probeProductName string = 'AvailabilityTest'

@description('Further application settings, name to value: docs/configuration.md. What is set by hand and not here is lost by the next deployment.')
param moreSettings object = {}

var token = toLower(uniqueString(subscription().id, environmentName, location))
var tags = { 'azd-env-name': environmentName }
var appName = 'licensing-${token}'
var secondAppName = 'licensing-2-${token}'
var appHost = '${appName}.azurewebsites.net'
var secondAppHost = '${secondAppName}.azurewebsites.net'
var doorHost = frontDoor ? door.outputs.hostName : appHost
var publicUrl = 'https://${empty(customDomain) ? doorHost : customDomain}'
var publicAccess = privateNetwork ? 'Disabled' : 'Enabled'
var hasSecond = !empty(secondLocation)
var origins = hasSecond ? [appHost, secondAppHost] : [appHost]

resource group 'Microsoft.Resources/resourceGroups@2024-03-01' = {
  name: 'licensing-${environmentName}'
  location: location
  tags: tags
}

module identity 'modules/identity.bicep' = {
  name: 'identity'
  scope: group
  params: {
    name: 'licensing-${token}'
    location: location
    tags: tags
  }
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'monitoring'
  scope: group
  params: {
    name: 'licensing-${token}'
    location: location
    tags: tags
    dailyLogsGB: dailyLogsGB
    logDays: logDays
  }
}

module network 'modules/network.bicep' = if (privateNetwork) {
  name: 'network'
  scope: group
  params: {
    name: 'licensing-${token}'
    location: location
    tags: tags
  }
}

module records 'modules/records.bicep' = {
  name: 'records'
  scope: group
  params: {
    name: 'lmrec${token}'
    location: location
    tags: tags
    redundancy: recordsRedundancy
    publicAccess: publicAccess
    workspaceId: monitoring.outputs.workspaceId
    locked: lockRecords
  }
}

module hostStorage 'modules/host-storage.bicep' = {
  name: 'host-storage'
  scope: group
  params: {
    name: 'lmhost${token}'
    location: location
    tags: tags
    publicAccess: publicAccess
    workspaceId: monitoring.outputs.workspaceId
  }
}

module vault 'modules/vault.bicep' = {
  name: 'vault'
  scope: group
  params: {
    name: 'lm-${token}'
    location: location
    tags: tags
    publicAccess: publicAccess
    workspaceId: monitoring.outputs.workspaceId
  }
}

module endpoints 'modules/private-endpoints.bicep' = if (privateNetwork) {
  name: 'private-endpoints'
  scope: group
  params: {
    location: location
    tags: tags
    subnetId: privateNetwork ? network.outputs.endpointSubnetId : ''
    networkId: privateNetwork ? network.outputs.networkId : ''
    recordsId: records.outputs.id
    hostStorageId: hostStorage.outputs.id
    vaultId: vault.outputs.id
  }
}

module appWritesRecords 'roles/app-writes-records.bicep' = {
  name: 'app-writes-records'
  scope: group
  params: {
    principalId: identity.outputs.principalId
    accountName: records.outputs.name
  }
}

module appRunsOnHostStorage 'roles/app-runs-on-host-storage.bicep' = {
  name: 'app-runs-on-host-storage'
  scope: group
  params: {
    principalId: identity.outputs.principalId
    accountName: hostStorage.outputs.name
  }
}

module hostTellsWhatFailed 'roles/host-tells-what-failed.bicep' = {
  name: 'host-tells-what-failed'
  scope: group
  params: {
    principalId: identity.outputs.principalId
    accountName: hostStorage.outputs.name
  }
}

module appReadsSecrets 'roles/app-reads-secrets.bicep' = {
  name: 'app-reads-secrets'
  scope: group
  params: {
    principalId: identity.outputs.principalId
    vaultName: vault.outputs.name
  }
}

module appSendsTelemetry 'roles/app-sends-telemetry.bicep' = {
  name: 'app-sends-telemetry'
  scope: group
  params: {
    principalId: identity.outputs.principalId
    insightsName: monitoring.outputs.insightsName
  }
}

module operatorSetsSecrets 'roles/operator-sets-secrets.bicep' = if (!empty(operatorId)) {
  name: 'operator-sets-secrets'
  scope: group
  params: {
    principalId: operatorId
    principalType: operatorType
    vaultName: vault.outputs.name
  }
}

module operatorKeepsRecords 'roles/operator-keeps-records.bicep' = if (!empty(operatorId)) {
  name: 'operator-keeps-records'
  scope: group
  params: {
    principalId: operatorId
    principalType: operatorType
    accountName: records.outputs.name
  }
}

module door 'modules/front-door.bicep' = if (frontDoor) {
  name: 'front-door'
  scope: group
  params: {
    name: 'licensing-${token}'
    tags: tags
    origins: origins
    customDomain: customDomain
    workspaceId: monitoring.outputs.workspaceId
  }
}

module app 'modules/app.bicep' = {
  name: 'app'
  scope: group
  params: {
    name: appName
    location: location
    tags: union(tags, { 'azd-service-name': 'app' })
    identityName: identity.outputs.name
    hostStorageName: hostStorage.outputs.name
    insightsName: monitoring.outputs.insightsName
    vaultName: vault.outputs.name
    recordsUrl: records.outputs.tableUrl
    publicUrl: publicUrl
    supportEmail: supportEmail
    directoryId: directoryId
    apiClientId: apiClientId
    smtpHost: smtpHost
    smtpUser: smtpUser
    mailFrom: mailFrom
    autoIncidents: true
    instanceMemoryMB: instanceMemoryMB
    maximumInstances: maximumInstances
    requestsPerInstance: requestsPerInstance
    alwaysReady: alwaysReady
    subnetId: privateNetwork ? network.outputs.appSubnetId : ''
    frontDoorId: frontDoor ? door.outputs.frontDoorId : ''
    moreSettings: moreSettings
  }
  // What the app cannot start without: its package, its settings, its records.
  dependsOn: [
    appWritesRecords
    appRunsOnHostStorage
    appReadsSecrets
    appSendsTelemetry
    hostTellsWhatFailed
    endpoints
  ]
}

module secondHostStorage 'modules/host-storage.bicep' = if (hasSecond) {
  name: 'second-host-storage'
  scope: group
  params: {
    name: 'lmhos2${token}'
    location: hasSecond ? secondLocation : location
    tags: tags
    publicAccess: 'Enabled'
    workspaceId: monitoring.outputs.workspaceId
  }
}

module secondRunsOnHostStorage 'roles/app-runs-on-host-storage.bicep' = if (hasSecond) {
  name: 'second-runs-on-host-storage'
  scope: group
  params: {
    principalId: identity.outputs.principalId
    accountName: hasSecond ? secondHostStorage.outputs.name : ''
  }
}

module secondHostTellsWhatFailed 'roles/host-tells-what-failed.bicep' = if (hasSecond) {
  name: 'second-host-tells-what-failed'
  scope: group
  params: {
    principalId: identity.outputs.principalId
    accountName: hasSecond ? secondHostStorage.outputs.name : ''
  }
}

// It reads a copy that nobody may write: so it sends no mail, opens no incident, and takes no change.
module secondApp 'modules/app.bicep' = if (hasSecond) {
  name: 'second-app'
  scope: group
  params: {
    name: secondAppName
    location: hasSecond ? secondLocation : location
    tags: tags
    identityName: identity.outputs.name
    hostStorageName: hasSecond ? secondHostStorage.outputs.name : ''
    insightsName: monitoring.outputs.insightsName
    vaultName: vault.outputs.name
    recordsUrl: records.outputs.secondTableUrl
    publicUrl: publicUrl
    supportEmail: supportEmail
    directoryId: directoryId
    apiClientId: apiClientId
    smtpHost: ''
    smtpUser: ''
    mailFrom: mailFrom
    autoIncidents: false
    instanceMemoryMB: instanceMemoryMB
    maximumInstances: maximumInstances
    requestsPerInstance: requestsPerInstance
    alwaysReady: alwaysReady
    subnetId: ''
    frontDoorId: frontDoor ? door.outputs.frontDoorId : ''
    moreSettings: moreSettings
  }
  dependsOn: [
    appWritesRecords
    appReadsSecrets
    appSendsTelemetry
    secondRunsOnHostStorage
    secondHostTellsWhatFailed
  ]
}

module alerts 'alerts.bicep' = {
  name: 'alerts'
  scope: group
  params: {
    name: 'licensing-${token}'
    location: location
    tags: tags
    email: alertEmail
    workspaceId: monitoring.outputs.workspaceId
    insightsId: monitoring.outputs.insightsId
    recordsId: records.outputs.id
    publicUrl: publicUrl
    probePublisherId: probePublisherId
    probeSerialNumber: probeSerialNumber
    probeProductName: probeProductName
  }
  dependsOn: [app]
}

module workbook 'modules/workbook.bicep' = {
  name: 'workbook'
  scope: group
  params: {
    location: location
    tags: tags
    workspaceId: monitoring.outputs.workspaceId
  }
}

// azd keeps these in its environment; none is a secret.
output AZURE_RESOURCE_GROUP string = group.name
output APP_NAME string = appName
output SECOND_APP_NAME string = hasSecond ? secondAppName : ''
output VAULT_NAME string = vault.outputs.name
output PUBLIC_URL string = publicUrl
output RECORDS_URL string = records.outputs.tableUrl
output FRONT_DOOR_HOST string = frontDoor ? door.outputs.hostName : ''
