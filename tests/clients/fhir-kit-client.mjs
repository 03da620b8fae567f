// What fhir-kit-client's own documentation shows: node fhir-kit-client.mjs BASE TOKEN
import * as kit from "fhir-kit-client";
const Client = kit.Client ?? kit.default;
const [base, token] = process.argv.slice(2);
const client = new Client({ baseUrl: base });
const smart = await client.smartAuthMetadata();
client.bearerToken = token;
const made = await client.create({ resourceType: "Patient", body: { resourceType: "Patient", name: [{ family: "Kit" }] } });
const read = await client.read({ resourceType: "Patient", id: made.id });
const page = await client.search({ resourceType: "Observation", searchParams: { _count: 5 } });
const next = await client.nextPage({ bundle: page });
await client.update({ resourceType: "Patient", id: made.id, body: { ...read, gender: "other" } });
const history = await client.history({ resourceType: "Patient", id: made.id });
await client.delete({ resourceType: "Patient", id: made.id });
const gone = await client.read({ resourceType: "Patient", id: made.id }).catch((error) => error.response.status);
console.log(JSON.stringify({ token: String(smart.tokenUrl ?? smart.token), page: page.entry.length, next: next.entry.length, history: history.entry.length, gone }));
