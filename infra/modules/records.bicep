// The account of the records, apart from what the host writes, so that rights and redundancy are its own.
param name string
param location string
param tags object
param redundancy string
param publicAccess string
param workspaceId string
param locked bool

resource account 'Microsoft.Storage/storageAccounts@2025-06-01' = {
  // checkov:skip=CKV_AZURE_35:reached over the internet by identities alone, unless privateNetwork closes it
  // checkov:skip=CKV_AZURE_59:the same: privateNetwork decides
  // checkov:skip=CKV_AZURE_206:a parameter decides; its default copies over three zones
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: redundancy }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    publicNetworkAccess: publicAccess
    supportsHttpsTrafficOnly: true
  }
}

// For whoever puts backups here. Table Storage itself has no soft delete: docs/operations.md says how records come back.
resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2025-06-01' = {
  parent: account
  name: 'default'
  properties: {
    deleteRetentionPolicy: { enabled: true, days: 30 }
    containerDeleteRetentionPolicy: { enabled: true, days: 30 }
  }
}

resource tables 'Microsoft.Storage/storageAccounts/tableServices@2025-06-01' = {
  parent: account
  name: 'default'
}

// The default of LICENSING_STORAGE_TABLE.
resource catalogue 'Microsoft.Storage/storageAccounts/tableServices/tables@2025-06-01' = {
  parent: tables
  name: 'catalogue'
}

resource lock 'Microsoft.Authorization/locks@2020-05-01' = if (locked) {
  scope: account
  name: 'records'
  properties: {
    level: 'CanNotDelete'
    notes: 'What is sold to whom lies here, and a deleted account takes its tables along.'
  }
}

resource log 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: tables
  name: 'changes'
  properties: {
    workspaceId: workspaceId
    logs: [
      { category: 'StorageDelete', enabled: true }
    ]
  }
}

output id string = account.id
output name string = account.name
output tableUrl string = 'https://${account.name}.table.${environment().suffixes.storage}'
output secondTableUrl string = 'https://${account.name}-secondary.table.${environment().suffixes.storage}'
