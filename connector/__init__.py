"""The custom connector of the Power Platform, written from the doors. Not deployed."""
