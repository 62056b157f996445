"""What makes a release: the package that is deployed, its SBOM, and the audit of what it stands on. Not deployed."""
