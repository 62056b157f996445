// The picture of all validations, for whoever may read the workspace.
param location string
param tags object
param workspaceId string

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(resourceGroup().id, 'license-validations')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: 'License validations'
    category: 'workbook'
    sourceId: workspaceId
    serializedData: loadTextContent('../workbooks/license-validations.workbook.json')
  }
}
