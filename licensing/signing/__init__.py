"""The signature under every reply: RSA keys and their rotation, JWS, and the published key sets."""
