"""One-time codes (RFC 6238: SHA-1, 30 s, 6 digits), by Python's hmac."""

import hashlib
import hmac
import struct
import time


def totp(secret):
    """The code of now."""
    tag = hmac.digest(secret, struct.pack(">Q", int(time.time()) // 30), hashlib.sha1)
    at = tag[-1] & 15
    return f"{(struct.unpack('>I', tag[at:at + 4])[0] & 0x7FFFFFFF) % 1_000_000:06}"
