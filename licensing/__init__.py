"""License Manager: the license server of publishers who sell products for D365FO."""
