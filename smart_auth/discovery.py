"""The discovery documents: `.well-known/smart-configuration` and `.well-known/openid-configuration`."""

from __future__ import annotations

from typing import Any

from smart_auth.assertions import ALGORITHMS
from smart_auth.clients import GRANTS, METHODS
from smart_auth.keys import ALGORITHM
from smart_auth.realm import Realm
from smart_auth.scopes import LAUNCH

# SMART App Launch 2.2, "Conformance": each names something that runs and is tested.
CAPABILITIES = (
    "launch-ehr",
    "launch-standalone",
    "authorize-post",
    "client-public",
    "client-confidential-symmetric",
    "client-confidential-asymmetric",
    "sso-openid-connect",
    "context-banner",
    "context-style",
    "context-ehr-patient",
    "context-ehr-encounter",
    "context-standalone-patient",
    "context-standalone-encounter",
    "permission-offline",
    "permission-online",
    "permission-patient",
    "permission-user",
    "permission-v1",
    "permission-v2",
)
SCOPES = (
    "openid",
    "fhirUser",
    "profile",
    "launch",
    *LAUNCH,
    "offline_access",
    "online_access",
    "patient/*.cruds",
    "patient/*.rs",
    "user/*.cruds",
    "user/*.rs",
    "system/*.cruds",
    "system/*.rs",
)


def endpoints(realm: Realm) -> dict[str, Any]:
    """What both documents say: issuer, addresses and methods."""
    names = ("authorize", "token", "introspect", "revoke", "account")
    authorize, token, introspect, revoke, account = (f"{realm.auth}/{name}" for name in names)
    registration = {"registration_endpoint": f"{realm.auth}/register"} if realm.registration != "off" else {}
    return {
        "issuer": realm.issuer,
        "jwks_uri": f"{realm.auth}/jwks",
        "authorization_endpoint": authorize,
        "token_endpoint": token,
        "introspection_endpoint": introspect,
        "revocation_endpoint": revoke,
        "management_endpoint": account,
        **registration,
        "token_endpoint_auth_methods_supported": sorted(set().union(*METHODS.values()) - {"none"}),
        "token_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
        "grant_types_supported": list(GRANTS),
        "scopes_supported": list(SCOPES),
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
    }


def smart_configuration(realm: Realm) -> dict[str, Any]:
    """SMART App Launch 2.2, "Conformance": the metadata of a FHIR endpoint."""
    return {**endpoints(realm), "capabilities": list(CAPABILITIES)}


def openid_configuration(realm: Realm) -> dict[str, Any]:
    """OpenID Connect Discovery 1.0 §3."""
    return {
        **endpoints(realm),
        "userinfo_endpoint": f"{realm.auth}/userinfo",
        "end_session_endpoint": f"{realm.auth}/logout",
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [ALGORITHM],
        "response_modes_supported": ["query"],
        "prompt_values_supported": ["none", "login", "consent", "select_account"],
        "claims_supported": ["iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "fhirUser", "profile", "name"],
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
        "authorization_response_iss_parameter_supported": True,
    }


# SMART 2.2, "SMART App Styling": what our own pages look like. A change needs a new address.
STYLE = {
    "color_background": "#ffffff",
    "color_error": "#b3261e",
    "color_highlight": "#0b57d0",
    "color_modal_backdrop": "rgba(0, 0, 0, 0.4)",
    "color_success": "#146c2e",
    "color_text": "#1f1f1f",
    "dim_border_radius": "8px",
    "dim_font_size": "16px",
    "dim_spacing_size": "16px",
    "font_family_body": "system-ui, sans-serif",
    "font_family_heading": "system-ui, sans-serif",
}
