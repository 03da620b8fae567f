"use strict";
FHIR.oauth2.authorize({ clientId: "npm-fhirclient", scope: "launch openid fhirUser offline_access patient/*.rs", redirectUri: "./" });
