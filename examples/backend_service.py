"""A SMART backend service: `keys FILE` makes its key pair, `token BASE CLIENT SCOPE FILE` gets a token with it."""

import json
import sys
import time
import urllib.parse
import urllib.request
import uuid
from pathlib import Path

from joserfc import jwt
from joserfc.jwk import ECKey

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def keys(file: str) -> None:
    """Keep the private key in the file, print the public one as a JWK Set for the registration."""
    key = ECKey.generate_key("P-384", {"kid": str(uuid.uuid4()), "use": "sig", "alg": "ES384"})
    Path(file).touch(mode=0o600)
    Path(file).write_text(json.dumps(key.as_dict(private=True)))
    print(json.dumps({"keys": [key.as_dict(private=False)]}))


def token(base: str, client: str, scope: str, file: str) -> None:
    """Sign who we are, for five minutes and once, and exchange it for an access token."""
    key = ECKey.import_key(json.loads(Path(file).read_text()))
    url = json.load(urllib.request.urlopen(f"{base}/.well-known/smart-configuration"))["token_endpoint"]
    claims = {"iss": client, "sub": client, "aud": url, "exp": int(time.time()) + 240, "jti": str(uuid.uuid4())}
    signed = jwt.encode({"alg": "ES384", "kid": key.kid, "typ": "JWT"}, claims, key, algorithms=["ES384"])
    form = {"grant_type": "client_credentials", "scope": scope, "client_assertion_type": ASSERTION}
    body = urllib.parse.urlencode({**form, "client_assertion": signed}).encode()
    print(json.load(urllib.request.urlopen(url, body))["access_token"])


{"keys": keys, "token": token}[sys.argv[1]](*sys.argv[2:])
