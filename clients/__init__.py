"""What a caller of the service needs, in three languages. Not deployed."""
