"use strict";
// A SMART app in one file: standalone launch, EHR launch, PKCE, and the data of the patient in context.
const asked = new URLSearchParams(location.search);
const home = new URL(".", location.href).href;
const say = (text) => { document.getElementById("status").textContent = text; };
const base64url = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
const chance = () => base64url(crypto.getRandomValues(new Uint8Array(32)));

async function json(url, options) {
  const answer = await fetch(url, options);
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error_description || found.issue?.[0].diagnostics || answer.status);
  return found;
}

// Where the server's endpoints are is in one document; the login itself happens there, never in the app.
async function begin(iss, launch, client) {
  const server = await json(`${iss}/.well-known/smart-configuration`);
  const login = { iss, client, token: server.token_endpoint, state: chance(), verifier: chance() };
  sessionStorage.login = JSON.stringify(login);
  const challenge = base64url(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(login.verifier)));
  const scope = `openid fhirUser ${launch ? "launch" : "launch/patient"} patient/Patient.r patient/Observation.rs`;
  location.href = `${server.authorization_endpoint}?` + new URLSearchParams({
    response_type: "code", client_id: client, redirect_uri: home, scope, state: login.state, aud: iss,
    code_challenge: challenge, code_challenge_method: "S256", ...(launch ? { launch } : {}),
  });
}

async function finish() {
  const login = JSON.parse(sessionStorage.login || "{}");
  if (asked.get("state") !== login.state || asked.get("iss") !== login.iss) throw new Error("This answer is to another question.");
  if (asked.has("error")) throw new Error(`${asked.get("error")}: ${asked.get("error_description")}`);
  const body = new URLSearchParams({
    grant_type: "authorization_code", code: asked.get("code"), redirect_uri: home, client_id: login.client, code_verifier: login.verifier,
  });
  const granted = await json(login.token, { method: "POST", body });
  const get = (url) => json(`${login.iss}/${url}`, { headers: { Authorization: `Bearer ${granted.access_token}` } });
  const patient = await get(`Patient/${granted.patient}`);
  const name = patient.name?.[0] ?? {};
  document.getElementById("who").textContent = name.text ?? [...(name.given ?? []), name.family].join(" ");
  const found = await get(`Observation?patient=${granted.patient}&_sort=-date&_count=10`).catch(() => ({}));
  for (const { resource } of found.entry ?? []) {
    const line = document.createElement("li");
    const value = resource.valueQuantity ? `${resource.valueQuantity.value} ${resource.valueQuantity.unit ?? ""}` : "";
    line.textContent = `${resource.effectiveDateTime?.slice(0, 10) ?? ""} ${resource.code.text ?? resource.code.coding?.[0].display ?? ""} ${value}`;
    document.getElementById("observations").append(line);
  }
  say(`Logged in. Granted: ${granted.scope}`);
}

const client = asked.get("client_id") ?? "demo-app";
const failed = (error) => say(error.message);
if (asked.has("state")) finish().catch(failed);
else if (asked.has("launch")) begin(asked.get("iss"), asked.get("launch"), client).catch(failed);
else document.getElementById("start").addEventListener("submit", (event) => {
  event.preventDefault();
  begin(document.getElementById("iss").value, null, client).catch(failed);
});
