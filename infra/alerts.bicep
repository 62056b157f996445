// Who is woken, and by what. All queries stand here, so that a name that telemetry changes is changed in one place.
param name string
param location string
param tags object
param email string
param workspaceId string
param insightsId string
param recordsId string
param publicUrl string
param probePublisherId string
param probeSerialNumber string
param probeProductName string

// Each query finds rows only where something is wrong (docs/telemetry.md).
var requests = 'AppEvents | where Name == "RequestServed"'
var queries = [
  {
    name: 'validations-slow'
    says: 'One validation in 20 takes longer than a second. docs/operations.md: Find out what is wrong.'
    severity: 2
    every: 'PT5M'
    window: 'PT15M'
    query: '${requests} and tostring(Properties.function) == "validate" | summarize P95 = percentile(todouble(Measurements.durationMs), 95), Requests = count() | where Requests >= 20 and P95 > 1000'
  }
  {
    name: 'errors'
    says: 'More than 1 request in 100 was answered with a 5xx.'
    severity: 1
    every: 'PT5M'
    window: 'PT15M'
    query: '${requests} | summarize Failed = countif(tostring(Properties.status) startswith "5"), Requests = count() | where Failed >= 5 and Failed * 100 > Requests'
  }
  {
    name: 'no-validations'
    says: 'No environment has validated for an hour. Switch this off where there are only a few environments.'
    severity: 2
    every: 'PT15M'
    window: 'PT1H'
    query: 'AppEvents | where Name == "LicenseValidation" and tostring(Properties.serialNumber) != "${probeSerialNumber}" | summarize Validations = count() | where Validations == 0'
  }
  {
    name: 'dead-letters'
    says: 'A message about a notice could not be delivered, and was given up. It can be read and replayed.'
    severity: 3
    every: 'PT15M'
    window: 'PT30M'
    query: 'AppEvents | where Name == "DeliveryGivenUp"'
  }
  {
    name: 'not-healthy'
    says: 'The service says of itself that it is not well.'
    severity: 1
    every: 'PT5M'
    window: 'PT10M'
    query: 'AppEvents | where Name == "HealthChecked" and (tostring(Properties.storage) != "healthy" or tostring(Properties.signing) != "healthy")'
  }
  {
    name: 'keys'
    says: 'The current signing key is older than a year, or none is ready to follow it. docs/operations.md: Rotate the signing keys.'
    severity: 2
    every: 'PT6H'
    window: 'P1D'
    query: 'AppEvents | where Name == "Started" and (todouble(Measurements.currentKeyAgeDays) > 365 or todouble(Measurements.nextKeys) == 0)'
  }
  {
    name: 'logs-full'
    says: 'The daily cap of the log is reached: until the next day nothing is logged, and no other alert on the log fires. infra/README.md: dailyLogsGB.'
    severity: 2
    every: 'PT5M'
    window: 'PT15M'
    query: '_LogOperation | where Category =~ "Ingestion" and Detail has "OverQuota"'
  }
]

resource people 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: name
  location: 'global'
  tags: tags
  properties: {
    groupShortName: 'licensing'
    enabled: true
    emailReceivers: [
      {
        name: 'mail'
        emailAddress: email
        useCommonAlertSchema: true
      }
    ]
  }
}

resource rules 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [for each in queries: {
  name: '${name}-${each.name}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: each.name
    description: each.says
    severity: each.severity
    enabled: true
    scopes: [workspaceId]
    evaluationFrequency: each.every
    windowSize: each.window
    autoMitigate: true
    // Tables are made with their first row: a new workspace does not know them all.
    skipQueryValidation: true
    criteria: {
      allOf: [
        {
          query: each.query
          timeAggregation: 'Count'
          operator: 'GreaterThan'
          threshold: 0
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    actions: { actionGroups: [people.id] }
  }
}]

var probe = '{"publisherId": "${probePublisherId}", "serialNumber": "${probeSerialNumber}", "nonce": "availability-test", "products": [{"productName": "${probeProductName}"}]}'
var asks = {
  RequestUrl: '${publicUrl}/api/v1/licenses/validate'
  HttpVerb: 'POST'
  Headers: [
    {
      key: 'Content-Type'
      value: 'application/json'
    }
  ]
  RequestBody: base64(probe)
  ParseDependentRequests: false
  FollowRedirects: false
}
var looks = {
  RequestUrl: '${publicUrl}/api/v1/health'
  HttpVerb: 'GET'
  ParseDependentRequests: false
  FollowRedirects: false
}

resource availability 'Microsoft.Insights/webtests@2022-06-15' = {
  name: '${name}-validate'
  location: location
  tags: union(tags, { 'hidden-link:${insightsId}': 'Resource' })
  kind: 'standard'
  properties: {
    SyntheticMonitorId: '${name}-validate'
    Name: '${name}-validate'
    Kind: 'standard'
    Enabled: true
    Frequency: 300
    Timeout: 30
    RetryEnabled: true
    // Amsterdam, Ashburn, Singapore.
    Locations: [
      { Id: 'emea-nl-ams-azr' }
      { Id: 'us-va-ash-azr' }
      { Id: 'apac-sg-sin-azr' }
    ]
    Request: empty(probePublisherId) ? looks : asks
    ValidationRules: {
      ExpectedHttpStatusCode: 200
      SSLCheck: true
      SSLCertRemainingLifetimeCheck: 14
    }
  }
}

resource unavailable 'Microsoft.Insights/metricAlerts@2018-03-01' = {
  name: '${name}-unavailable'
  location: 'global'
  tags: tags
  properties: {
    description: 'Two of three places on Earth get no answer.'
    severity: 0
    enabled: true
    autoMitigate: true
    scopes: [availability.id, insightsId]
    evaluationFrequency: 'PT1M'
    windowSize: 'PT5M'
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.WebtestLocationAvailabilityCriteria'
      webTestId: availability.id
      componentId: insightsId
      failedLocationCount: 2
    }
    actions: [{ actionGroupId: people.id }]
  }
}

resource throttled 'Microsoft.Insights/metricAlerts@2018-03-01' = {
  name: '${name}-storage-throttled'
  location: 'global'
  tags: tags
  properties: {
    description: 'Storage refuses requests, since there are too many: docs/scale.md.'
    severity: 2
    enabled: true
    autoMitigate: true
    scopes: ['${recordsId}/tableServices/default']
    targetResourceType: 'Microsoft.Storage/storageAccounts/tableServices'
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          name: 'throttled'
          criterionType: 'StaticThresholdCriterion'
          metricNamespace: 'Microsoft.Storage/storageAccounts/tableServices'
          metricName: 'Transactions'
          timeAggregation: 'Total'
          operator: 'GreaterThan'
          threshold: 10
          dimensions: [
            {
              name: 'ResponseType'
              operator: 'Include'
              values: ['ServerBusyError', 'ClientThrottlingError', 'SuccessWithThrottling', 'ClientAccountRequestThrottlingError']
            }
          ]
        }
      ]
    }
    actions: [{ actionGroupId: people.id }]
  }
}
