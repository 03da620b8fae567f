"""What the hospital treats, measures and gives: ICD-10-CM, LOINC with UCUM, ATC, CVX and ICD-10-PCS; no SNOMED CT."""

from __future__ import annotations

from dataclasses import dataclass

from seed.elements import ATC


@dataclass(frozen=True, slots=True)
class Disease:
    """A row of DISEASES; `specialty` is a key of SPECIALTIES, `drugs` and `panels` of the tables below."""

    code: str
    display: str
    specialty: str
    youngest: int
    drugs: tuple[str, ...]
    panels: tuple[str, ...]
    procedure: str | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """A row of MEASUREMENTS: LOINC code, UCUM unit, digits, reference range, mean and spread in the healthy."""

    code: str
    display: str
    unit: str
    digits: int
    low: float | None
    high: float | None
    mean: float
    spread: float


@dataclass(frozen=True, slots=True)
class Drug:
    """A row of DRUGS: ATC code, name, dose form, strength and how it is taken."""

    code: str
    display: str
    form: str
    dose: float
    unit: str
    per_day: int
    route: str
    instruction: str
    days: int


def _disease(row: str) -> Disease:
    code, display, specialty, youngest, drugs, panels, *procedure = (cell.strip() for cell in row.split("|"))
    return Disease(
        code,
        display,
        specialty,
        int(youngest),
        tuple(drugs.split()),
        tuple(panels.split()),
        procedure[0] if procedure else None,
    )


# code | display | specialty | youngest age | drugs | panels | procedure
CHRONIC: tuple[Disease, ...] = tuple(
    _disease(row)
    for row in """\
I10|Essential (primary) hypertension|family|30|lisinopril|metabolic lipid
E11.9|Type 2 diabetes mellitus without complications|endocrinology|35|metformin|diabetes metabolic
E78.5|Hyperlipidemia, unspecified|family|30|atorvastatin|lipid
J45.909|Unspecified asthma, uncomplicated|family|4|salbutamol|blood
K21.9|Gastro-esophageal reflux disease without esophagitis|gastroenterology|25|omeprazole|blood|0DB68ZX
E03.9|Hypothyroidism, unspecified|endocrinology|25|levothyroxine|thyroid
F41.1|Generalized anxiety disorder|psychiatry|16|sertraline|thyroid
I48.91|Unspecified atrial fibrillation|cardiology|55|apixaban metoprolol|metabolic blood|4A02X4Z
I25.10|Atherosclerotic heart disease of native coronary artery without angina pectoris|cardiology|50|atorvastatin \
metoprolol|lipid metabolic|B24BZZZ
J44.9|Chronic obstructive pulmonary disease, unspecified|family|50|tiotropium|blood|BW03ZZZ
N18.30|Chronic kidney disease, stage 3 unspecified|family|50|lisinopril|metabolic blood
M17.11|Unilateral primary osteoarthritis, right knee|orthopedics|50|paracetamol|blood|0SRC0J9
G43.909|Migraine, unspecified, not intractable, without status migrainosus|family|14|sumatriptan|blood
D50.9|Iron deficiency anemia, unspecified|family|12|ferrous-sulfate|blood
I50.9|Heart failure, unspecified|cardiology|60|furosemide metoprolol|metabolic blood|B24BZZZ
""".splitlines()
)

ACUTE: tuple[Disease, ...] = tuple(
    _disease(row)
    for row in """\
J06.9|Acute upper respiratory infection, unspecified|family|0|paracetamol|blood
N39.0|Urinary tract infection, site not specified|family|12|nitrofurantoin|metabolic
J02.0|Streptococcal pharyngitis|family|3|amoxicillin|blood
M54.50|Low back pain, unspecified|orthopedics|18|ibuprofen|blood
S93.401A|Sprain of unspecified ligament of right ankle, initial encounter|emergency|6|ibuprofen|blood
L30.9|Dermatitis, unspecified|family|0|hydrocortisone|blood
H66.90|Otitis media, unspecified, unspecified ear|pediatrics|0|amoxicillin|blood
K80.20|Calculus of gallbladder without cholecystitis without obstruction|gastroenterology|25|paracetamol|metabolic|\
0FT44ZZ
J18.9|Pneumonia, unspecified organism|emergency|1|amoxicillin|blood metabolic|BW03ZZZ
R07.9|Chest pain, unspecified|emergency|30|paracetamol|metabolic blood|4A02X4Z
""".splitlines()
)

# key: LOINC code | display | UCUM | digits | low | high | mean | spread
MEASUREMENTS: dict[str, Measurement] = {
    "glucose": Measurement("2345-7", "Glucose [Mass/volume] in Serum or Plasma", "mg/dL", 0, 70, 99, 92, 14),
    "hba1c": Measurement("4548-4", "Hemoglobin A1c/Hemoglobin.total in Blood", "%", 1, 4.0, 5.6, 5.9, 0.9),
    "creatinine": Measurement(
        "2160-0", "Creatinine [Mass/volume] in Serum or Plasma", "mg/dL", 2, 0.60, 1.30, 0.95, 0.22
    ),
    "sodium": Measurement("2951-2", "Sodium [Moles/volume] in Serum or Plasma", "mmol/L", 0, 136, 145, 140, 2.6),
    "potassium": Measurement("2823-3", "Potassium [Moles/volume] in Serum or Plasma", "mmol/L", 1, 3.5, 5.1, 4.2, 0.4),
    "alt": Measurement(
        "1742-6", "Alanine aminotransferase [Enzymatic activity/volume] in Serum or Plasma", "U/L", 0, 7, 56, 28, 13
    ),
    "cholesterol": Measurement(
        "2093-3", "Cholesterol [Mass/volume] in Serum or Plasma", "mg/dL", 0, None, 200, 192, 33
    ),
    "hdl": Measurement("2085-9", "Cholesterol in HDL [Mass/volume] in Serum or Plasma", "mg/dL", 0, 40, None, 53, 11),
    "ldl": Measurement(
        "13457-7", "Cholesterol in LDL [Mass/volume] in Serum or Plasma by calculation", "mg/dL", 0, None, 130, 112, 28
    ),
    "triglycerides": Measurement(
        "2571-8", "Triglyceride [Mass/volume] in Serum or Plasma", "mg/dL", 0, None, 150, 128, 45
    ),
    "hemoglobin": Measurement("718-7", "Hemoglobin [Mass/volume] in Blood", "g/dL", 1, 12.0, 17.5, 14.0, 1.5),
    "leukocytes": Measurement(
        "6690-2", "Leukocytes [#/volume] in Blood by Automated count", "10*3/uL", 1, 4.5, 11.0, 7.4, 2.1
    ),
    "platelets": Measurement(
        "777-3", "Platelets [#/volume] in Blood by Automated count", "10*3/uL", 0, 150, 400, 255, 60
    ),
    "hematocrit": Measurement(
        "4544-3", "Hematocrit [Volume Fraction] of Blood by Automated count", "%", 1, 36.0, 50.0, 42.0, 3.8
    ),
    "tsh": Measurement("3016-3", "Thyrotropin [Units/volume] in Serum or Plasma", "m[IU]/L", 2, 0.40, 4.00, 2.20, 1.10),
}

# key: LOINC code, display, members
PANELS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "metabolic": (
        "24323-8",
        "Comprehensive metabolic 2000 panel - Serum or Plasma",
        ("glucose", "creatinine", "sodium", "potassium", "alt"),
    ),
    "lipid": (
        "57698-3",
        "Lipid panel with direct LDL - Serum or Plasma",
        ("cholesterol", "hdl", "ldl", "triglycerides"),
    ),
    "blood": (
        "58410-2",
        "CBC panel - Blood by Automated count",
        ("hemoglobin", "leukocytes", "platelets", "hematocrit"),
    ),
    "diabetes": ("4548-4", "Hemoglobin A1c/Hemoglobin.total in Blood", ("hba1c",)),
    "thyroid": ("3016-3", "Thyrotropin [Units/volume] in Serum or Plasma", ("tsh",)),
}

# Single vital signs; body height, weight, mass index and the blood pressure panel are written beside them.
VITALS: tuple[Measurement, ...] = (
    Measurement("8867-4", "Heart rate", "/min", 0, 60, 100, 76, 11),
    Measurement("9279-1", "Respiratory rate", "/min", 0, 12, 20, 16, 2.2),
    Measurement("8310-5", "Body temperature", "Cel", 1, 36.1, 37.5, 36.8, 0.4),
    Measurement("2708-6", "Oxygen saturation in Arterial blood", "%", 0, 94, 100, 97, 1.2),
)


def _drugs(text: str) -> dict[str, Drug]:
    rows = [[cell.strip() for cell in row.split("|")] for row in text.splitlines()]
    return {
        key: Drug(code, display, form, float(dose), unit, int(per_day), route, instruction, int(days))
        for key, code, display, form, dose, unit, per_day, route, instruction, days in rows
    }


# key | ATC | display | form | dose | UCUM | a day | route (HL7 v3) | instruction | days
DRUGS: dict[str, Drug] = _drugs(
    """\
lisinopril|C09AA03|Lisinopril 10 mg oral tablet|tablet|10|mg|1|PO|Take one tablet in the morning|90
metformin|A10BA02|Metformin 500 mg oral tablet|tablet|500|mg|2|PO|Take one tablet with breakfast and supper|90
atorvastatin|C10AA05|Atorvastatin 20 mg oral tablet|tablet|20|mg|1|PO|Take one tablet in the evening|90
salbutamol|R03AC02|Salbutamol 0.1 mg inhaler|inhaler|0.1|mg|4|IPINHL|One puff up to four times a day|30
omeprazole|A02BC01|Omeprazole 20 mg oral capsule|capsule|20|mg|1|PO|Take one capsule before breakfast|60
levothyroxine|H03AA01|Levothyroxine 0.05 mg oral tablet|tablet|0.05|mg|1|PO|Take one tablet on an empty stomach|90
sertraline|N06AB06|Sertraline 50 mg oral tablet|tablet|50|mg|1|PO|Take one tablet in the morning|60
apixaban|B01AF02|Apixaban 5 mg oral tablet|tablet|5|mg|2|PO|Take one tablet twice a day|90
metoprolol|C07AB02|Metoprolol 50 mg oral tablet|tablet|50|mg|2|PO|Take one tablet twice a day|90
tiotropium|R03BB04|Tiotropium 0.018 mg inhaler|inhaler|0.018|mg|1|IPINHL|Inhale one dose in the morning|30
sumatriptan|N02CC01|Sumatriptan 50 mg oral tablet|tablet|50|mg|1|PO|Take one tablet at the start of an attack|30
ferrous-sulfate|B03AA07|Ferrous sulfate 325 mg oral tablet|tablet|325|mg|1|PO|Take one tablet with water|60
furosemide|C03CA01|Furosemide 40 mg oral tablet|tablet|40|mg|1|PO|Take one tablet in the morning|60
paracetamol|N02BE01|Paracetamol 500 mg oral tablet|tablet|500|mg|3|PO|Take one tablet up to three times a day|10
nitrofurantoin|J01XE01|Nitrofurantoin 100 mg oral capsule|capsule|100|mg|2|PO|Take one capsule twice a day|5
amoxicillin|J01CA04|Amoxicillin 500 mg oral capsule|capsule|500|mg|3|PO|Take one capsule three times a day|7
ibuprofen|M01AE01|Ibuprofen 400 mg oral tablet|tablet|400|mg|3|PO|Take one tablet with food|10
hydrocortisone|D07AA02|Hydrocortisone 1 % cream|cream|1|g|2|TOPICAL|Apply thinly twice a day|14"""
)

# ICD-10-PCS: display, price
PROCEDURES: dict[str, tuple[str, int]] = {
    "0DB68ZX": ("Excision of Stomach, Via Natural or Artificial Opening Endoscopic, Diagnostic", 1180),
    "4A02X4Z": ("Measurement of Cardiac Electrical Activity, External Approach", 95),
    "B24BZZZ": ("Ultrasonography of Heart with Aorta", 640),
    "BW03ZZZ": ("Plain Radiography of Chest", 140),
    "0SRC0J9": ("Replacement of Right Knee Joint with Synthetic Substitute, Cemented, Open Approach", 21400),
    "0FT44ZZ": ("Resection of Gallbladder, Percutaneous Endoscopic Approach", 9800),
}

# CVX code, display, months between doses, youngest age
VACCINES: tuple[tuple[str, str, int, int], ...] = (
    ("140", "Influenza, split virus, trivalent, PF", 12, 1),
    ("208", "COVID-19, mRNA, LNP-S, PF, 30 mcg/0.3 mL dose", 12, 12),
    ("115", "Tdap", 120, 7),
    ("33", "pneumococcal polysaccharide PPV23", 60, 65),
    ("187", "zoster recombinant", 60, 50),
)

# What, (system key, code) where a terminology names it, category, criticality, reaction
ALLERGIES: tuple[tuple[str, tuple[str, str] | None, str, str, str], ...] = (
    ("Penicillins with extended spectrum", ("atc", "J01CA"), "medication", "high", "Hives"),
    ("Ibuprofen", ("atc", "M01AE01"), "medication", "low", "Wheezing"),
    ("Peanut", ("unii", "QE1QX6B99R"), "food", "high", "Anaphylaxis"),
    ("Shellfish", None, "food", "high", "Swelling of the lips"),
    ("Birch pollen", None, "environment", "low", "Sneezing"),
    ("House dust mite", None, "environment", "low", "Itching eyes"),
)

# What mothers had
FAMILY_DISEASES: tuple[tuple[str, str], ...] = (
    ("I10", "Essential (primary) hypertension"),
    ("E11.9", "Type 2 diabetes mellitus without complications"),
    ("C50.919", "Malignant neoplasm of unspecified site of unspecified female breast"),
)

# key: NUCC code, display of the specialty, name of the hospital's service
SPECIALTIES: dict[str, tuple[str, str, str]] = {
    "family": ("207Q00000X", "Family Medicine Physician", "Family medicine"),
    "cardiology": ("207RC0000X", "Cardiovascular Disease Physician", "Cardiology"),
    "endocrinology": ("207RE0101X", "Endocrinology, Diabetes & Metabolism Physician", "Endocrinology"),
    "gastroenterology": ("207RG0100X", "Gastroenterology Physician", "Gastroenterology"),
    "orthopedics": ("207X00000X", "Orthopaedic Surgery Physician", "Orthopedics"),
    "pediatrics": ("208000000X", "Pediatrics Physician", "Pediatrics"),
    "psychiatry": ("2084P0800X", "Psychiatry Physician", "Psychiatry"),
    "emergency": ("207P00000X", "Emergency Medicine Physician", "Emergency"),
}

SYSTEMS: dict[str, str] = {
    "atc": ATC,
    "unii": "http://fdasis.nlm.nih.gov",
}
