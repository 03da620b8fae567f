"use strict";
// Passkeys (WebAuthn): the two forms stay hidden where the browser has none, and at an address without a name.
const named = !/^[\d.]+$|:/.test(location.hostname);
const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

async function post(form, path, body) {
  const answer = await fetch(form.dataset.auth + path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRF": form.dataset.csrf },
    body: JSON.stringify(body),
  });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error_description || "It did not work.");
  return found;
}

function wire(id, act) {
  const form = document.getElementById(id);
  if (!form || !named || !window.PublicKeyCredential) return;
  form.hidden = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const fault = form.querySelector(".fault");
    fault.hidden = true;
    try {
      location.href = (await act(form)).next;
    } catch (error) {
      fault.textContent = error.name === "NotAllowedError" ? "The passkey was not used." : error.message;
      fault.hidden = false;
    }
  });
}

wire("passkey", async (form) => {
  const options = await post(form, "/passkey/options", {});
  options.challenge = bytes(options.challenge);
  const found = await navigator.credentials.get({ publicKey: options });
  return post(form, "/passkey", {
    flow: form.dataset.flow,
    credential: {
      id: found.id, rawId: text(found.rawId), type: found.type,
      response: {
        authenticatorData: text(found.response.authenticatorData), clientDataJSON: text(found.response.clientDataJSON),
        signature: text(found.response.signature), userHandle: found.response.userHandle ? text(found.response.userHandle) : null,
      },
    },
  });
});

wire("passkey-new", async (form) => {
  const options = await post(form, "/account/passkey/options", {});
  options.challenge = bytes(options.challenge);
  options.user.id = bytes(options.user.id);
  for (const one of options.excludeCredentials || []) one.id = bytes(one.id);
  const made = await navigator.credentials.create({ publicKey: options });
  return post(form, "/account/passkey", {
    name: form.querySelector("input").value,
    credential: {
      id: made.id, rawId: text(made.rawId), type: made.type,
      response: { attestationObject: text(made.response.attestationObject), clientDataJSON: text(made.response.clientDataJSON) },
    },
  });
});
