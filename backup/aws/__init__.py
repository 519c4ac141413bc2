"""AWS for the rest of the house: session, bucket, secret, login token; botocore stays in here."""
