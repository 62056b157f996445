// Application Insights takes telemetry from identities only: local auth is off.
param principalId string
param insightsName string

var role = '3913510d-42f4-4e42-8a64-420c390055eb' // Monitoring Metrics Publisher

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insightsName
}

resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: insights
  name: guid(insights.id, principalId, role)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role)
  }
}
