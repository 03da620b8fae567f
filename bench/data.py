"""The resources and requests of the benchmark; a number makes each of them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

MRN = "http://bench.example.org/mrn"
LOINC = "http://loinc.org"
PATIENTS = 20
CODES = (
    ("8867-4", "Heart rate", "/min"),
    ("8310-5", "Body temperature", "Cel"),
    ("29463-7", "Body weight", "kg"),
    ("8302-2", "Body height", "cm"),
)

PATIENT = (
    '{"resourceType":"Patient",%s"identifier":[{"use":"official","type":{"coding":[{"system":'
    '"http://terminology.hl7.org/CodeSystem/v2-0203","code":"MR","display":"Medical record number"}]},'
    '"system":"' + MRN + '","value":"%d"}],"active":true,"name":[{"use":"official","family":"%s","given":'
    '["Maria","Anna"],"prefix":["Dr."]},{"use":"maiden","family":"Example"}],"telecom":[{"system":"phone","value":'
    '"+49 30 %d","use":"home","rank":1},{"system":"email","value":"p%d@example.org"}],"gender":"female",'
    '"birthDate":"19%02d-0%d-1%d","address":[{"use":"home","type":"both","line":["Example Street %d"],"city":'
    '"Berlin","postalCode":"1%04d","country":"DE"}],"maritalStatus":{"coding":[{"system":'
    '"http://terminology.hl7.org/CodeSystem/v3-MaritalStatus","code":"M","display":"Married"}]},'
    '"contact":[{"relationship":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v2-0131","code":"N"}]}],'
    '"name":{"family":"Contact","given":["Peter"]},"telecom":[{"system":"phone","value":"+49 30 1"}]}],'
    '"communication":[{"language":{"coding":[{"system":"urn:ietf:bcp:47","code":"de","display":"German"}]},'
    '"preferred":true}]}'
)
OBSERVATION = (
    '{"resourceType":"Observation","status":"final","category":[{"coding":[{"system":'
    '"http://terminology.hl7.org/CodeSystem/observation-category","code":"vital-signs","display":"Vital Signs"}]}],'
    '"code":{"coding":[{"system":"' + LOINC + '","code":"%s","display":"%s"}],"text":"%s"},'
    '"subject":{"reference":"%s"},"effectiveDateTime":"20%02d-0%d-1%dT08:30:00+01:00",'
    '"valueQuantity":{"value":%d.%d0,"unit":"%s","system":"http://unitsofmeasure.org","code":"%s"}}'
)


def family(number: int) -> str:
    """A name per number; ten of them share all letters but the last, whatever the size of the database."""
    return "N" + "".join("aeioubcdfg"[int(digit)] for digit in f"{number:07d}")


def patient(number: int, id: str = "") -> bytes:
    """A Patient of about 1.4 kB."""
    n = number
    row = (f'"id":"{id}",' if id else "", n, family(n), n, n, n % 100, n % 9 + 1, n % 10, n % 200, n % 10_000)
    return (PATIENT % row).encode()


def observation(number: int, subject: str) -> bytes:
    """An Observation of about 0.6 kB."""
    n = number
    code, text, unit = CODES[n % len(CODES)]
    row = (code, text, text, subject, n % 24, n % 9 + 1, n % 10, n % 200, n % 10, unit, unit)
    return (OBSERVATION % row).encode()


@dataclass(slots=True)
class World:
    """What has been stored so far: numbers and ids of patients."""

    number: int = 0
    patients: list[tuple[int, str]] = field(default_factory=list)
    turn: int = 0

    def any(self) -> tuple[int, str]:
        return random.choice(self.patients)

    def following(self) -> int:
        self.number += 1
        return self.number

    def learn(self, first: int, ids: list[str]) -> None:
        """Keep the ids that the patients of a bundle got."""
        self.patients += enumerate(ids, first)

    def bundle(self) -> bytes:
        """A transaction of 100 creates: 20 patients with four observations each."""
        entries = []
        for _ in range(PATIENTS):
            number = self.following()
            urn = f"urn:uuid:00000000-0000-4000-8000-{number:012d}"
            entries.append(_entry(patient(number), "Patient", urn))
            entries += [_entry(observation(4 * number + n, urn), "Observation") for n in range(4)]
        return b'{"resourceType":"Bundle","type":"transaction","entry":[' + b",".join(entries) + b"]}"


def _entry(body: bytes, type: str, urn: str = "") -> bytes:
    url = b'"fullUrl":"%b",' % urn.encode() if urn else b""
    return b'{%b"resource":%b,"request":{"method":"POST","url":"%b"}}' % (url, body, type.encode())


def _get(path: str) -> bytes:
    return b"GET /fhir/%b HTTP/1.1\r\nhost: b\r\n\r\n" % path.encode()


def _send(method: str, path: str, body: bytes) -> bytes:
    head = f"{method} /fhir{path} HTTP/1.1\r\nhost: b\r\ncontent-type: application/fhir+json\r\n"
    return b"%bcontent-length: %d\r\n\r\n%b" % (head.encode(), len(body), body)


def _update(world: World) -> bytes:
    world.turn += 1
    number, id = world.patients[world.turn % len(world.patients)]
    return _send("PUT", f"/Patient/{id}", patient(number, id).replace(b"Example Street", b"Street %d," % world.turn))


# Operation -> the next request. Each row is one line of the table.
REQUESTS = {
    "plain answer": lambda world: _get("Patient/1"),
    "read": lambda world: _get(f"Patient/{world.any()[1]}"),
    "vread": lambda world: _get(f"Patient/{world.any()[1]}/_history/1"),
    "search identifier": lambda world: _get(f"Patient?identifier={MRN}%7C{world.any()[0]}"),
    "search name prefix": lambda world: _get(f"Patient?name={family(world.any()[0])[:-1]}"),
    "search patient + code": lambda world: _get(f"Observation?patient={world.any()[1]}&code={LOINC}%7C8867-4"),
    "history": lambda world: _get(f"Patient/{world.any()[1]}/_history"),
    "update": _update,
    "create": lambda world: _send("POST", "/Patient", patient(world.following())),
    "transaction of 100": lambda world: _send("POST", "", world.bundle()),
}
