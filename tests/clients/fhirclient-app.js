"use strict";
// A standalone launch, where an EHR launch comes back to as well: what an app on npm fhirclient does.
const scope = "launch/patient openid fhirUser offline_access patient/*.rs";
const put = (value) => { const e = document.createElement("pre"); e.textContent = JSON.stringify(value); document.body.append(e); };
async function run() {
  const client = await FHIR.oauth2.init({ clientId: "npm-fhirclient", scope, iss: new URLSearchParams(location.search).get("iss") });
  const patient = await client.patient.read();
  const found = await client.request(`Observation?patient=${patient.id}&_count=5`, { pageLimit: 2, flat: true });
  const user = await client.user.read();
  const before = client.state.tokenResponse.access_token;
  await client.refresh();
  const again = await client.patient.read();
  put({ patient: patient.id, found: found.length, user: user.resourceType, fresh: before !== client.state.tokenResponse.access_token, again: again.id });
}
run().catch((error) => put({ error: String(error) }));
