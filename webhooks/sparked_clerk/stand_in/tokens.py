"""Session tokens of the stand-in, and the keys that they are signed with."""

import secrets
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from sparked_clerk.stand_in.users import User, random_name

LIFETIME_S = 60


class Signer:
    """Signs with the newest of its keys; its JWKS lists all. The first is made when it is needed: it takes 0.1 s."""

    def __init__(self) -> None:
        self._keys: list[tuple[str, rsa.RSAPrivateKey]] = []
        """By `kid`, the newest last."""

    def rotate(self, *, forget: bool) -> None:
        """Sign with a new key from now on; with `forget`, the older ones are not listed any more."""
        older = [] if forget else self._all()
        self._keys = [*older, (f"ins_{random_name()}", rsa.generate_private_key(65537, 2048))]

    def jwks(self) -> dict[str, list[dict[str, Any]]]:
        """The public keys."""
        return {
            "keys": [
                {
                    **RSAAlgorithm.to_jwk(key.public_key(), as_dict=True),
                    "kid": kid,
                    "use": "sig",
                    "alg": "RS256",
                }
                for kid, key in self._all()
            ]
        }

    def pem(self) -> str:
        """The public key that belongs to the newest one."""
        public = self._all()[-1][1].public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def token(self, user: User, issuer: str, claims: dict[str, Any]) -> str:
        """A session token; `claims` are put into it, those that are None left out."""
        now = int(time.time())
        all_claims = {
            "azp": "http://localhost:3000",
            "exp": now + LIFETIME_S,
            "fva": [0, -1],
            "iat": now,
            "iss": issuer,
            "jti": secrets.token_hex(10),
            "nbf": now - 10,
            "sid": f"sess_{random_name()}",
            "sts": "active",
            "sub": user.id,
            "v": 2,
            # As an instance customises it, for the role to be there.
            "metadata": {"role": user.role} if user.role else {},
            **claims,
        }
        return self.sign({name: value for name, value in all_claims.items() if value is not None})

    def sign(self, claims: dict[str, Any]) -> str:
        """A token of exactly these claims."""
        kid, key = self._all()[-1]
        return jwt.encode(claims, key, algorithm="RS256", headers={"kid": kid, "cat": "cl_B7d4PD111AAA"})

    def _all(self) -> list[tuple[str, rsa.RSAPrivateKey]]:
        if not self._keys:
            self.rotate(forget=True)
        return self._keys
