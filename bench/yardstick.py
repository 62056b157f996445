"""The yardstick: how many RSA signatures a second one Python thread makes on this machine, just now.

A machine's speed drifts from minute to minute, so every run is divided by what was measured beside it.
"""

import time
from functools import cache

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256


@cache
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def sign1(seconds: float = 1.0) -> float:
    """RSA-2048 PKCS#1 v1.5 SHA-256 signatures a second, of one thread: what RS256 costs."""
    key, scheme, digest, message = _key(), padding.PKCS1v15(), SHA256(), b"a message"
    key.sign(message, scheme, digest)  # the first one is slower
    signatures = 0
    started_at = now = time.perf_counter()
    while now < started_at + seconds:
        key.sign(message, scheme, digest)
        signatures += 1
        now = time.perf_counter()
    return signatures / (now - started_at)
