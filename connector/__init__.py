"""The custom connector of the Power Platform, generated from the endpoints. Not deployed."""
