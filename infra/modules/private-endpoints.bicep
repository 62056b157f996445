// Which services the app reaches over its own network, and under which names.
param location string
param tags object
param subnetId string
param networkId string
param recordsId string
param hostStorageId string
param vaultId string

module records 'private-endpoint.bicep' = {
  name: 'records-endpoint'
  params: {
    name: 'records'
    location: location
    tags: tags
    subnetId: subnetId
    serviceId: recordsId
    groupId: 'table'
    zoneId: tableZone.outputs.id
  }
}

module packages 'private-endpoint.bicep' = {
  name: 'packages-endpoint'
  params: {
    name: 'packages'
    location: location
    tags: tags
    subnetId: subnetId
    serviceId: hostStorageId
    groupId: 'blob'
    zoneId: blobZone.outputs.id
  }
}

module hostTables 'private-endpoint.bicep' = {
  name: 'host-tables-endpoint'
  params: {
    name: 'host-tables'
    location: location
    tags: tags
    subnetId: subnetId
    serviceId: hostStorageId
    groupId: 'table'
    zoneId: tableZone.outputs.id
  }
}

module vault 'private-endpoint.bicep' = {
  name: 'vault-endpoint'
  params: {
    name: 'vault'
    location: location
    tags: tags
    subnetId: subnetId
    serviceId: vaultId
    groupId: 'vault'
    zoneId: vaultZone.outputs.id
  }
}

module tableZone 'private-zone.bicep' = {
  name: 'table-zone'
  params: {
    name: 'privatelink.table.${environment().suffixes.storage}'
    tags: tags
    networkId: networkId
  }
}

module blobZone 'private-zone.bicep' = {
  name: 'blob-zone'
  params: {
    name: 'privatelink.blob.${environment().suffixes.storage}'
    tags: tags
    networkId: networkId
  }
}

module vaultZone 'private-zone.bicep' = {
  name: 'vault-zone'
  params: {
    name: 'privatelink.vaultcore.azure.net'
    tags: tags
    networkId: networkId
  }
}
