"""Release files: small made-up ones of each format, wrong ones, and what is stored of them."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from fhir_server.commands.terminology import files_of
from fhir_server.context import Context
from fhir_server.store import Store
from fhir_server.store.term_files import TermFiles
from profiles.outcome import FhirError
from terminology.load import FORMATS, read_release
from terminology.special import behaviour
from terminology.systems import System
from tests.shell import ask, content
from tests.terminology_world import codes, value


def files(**texts: str) -> dict[str, Callable[[], IO[bytes]]]:
    """Files by their names; `__` stands for a dot."""
    return {name.replace("__", "."): lambda text=text: io.BytesIO(text.encode()) for name, text in texts.items()}  # type: ignore[misc]


def table(*rows: str, tab: str = "\t") -> str:
    return "\n".join(row.replace("|", tab) for row in rows) + "\n"


TABULAR = """<ICD10CM.tabular><version>2027</version><chapter><name>1</name><desc>Infections</desc>
<section id="A00-A09"><desc>Intestinal</desc><diag><name>A00</name><desc>Cholera</desc>
<excludes1><note>other (A01.-)</note></excludes1>
<sevenChrDef><extension char="A">first</extension><extension char="D">later</extension></sevenChrDef>
<diag><name>A00.0</name><desc>Classic</desc><inclusionTerm><note>Old cholera</note></inclusionTerm></diag>
</diag></section></chapter></ICD10CM.tabular>"""
CLAML = """<ClaML version="2.0.0"><Title name="ICD-10" version="2019">x</Title>
<ModifierClass code=".0" modifier="M"><Rubric kind="preferred"><Label>mild</Label></Rubric></ModifierClass>
<Class code="I" kind="chapter"><Rubric kind="preferred"><Label>Infections</Label></Rubric></Class>
<Class code="A00" kind="category"><SuperClass code="I"/><ModifiedBy code="M"/>
<Rubric kind="preferred"><Label>Cholera</Label></Rubric></Class></ClaML>"""
RF2 = {
    "sct2_Concept_Snapshot_INT_20260101__txt": table(
        "id|effectiveTime|active|moduleId|definitionStatusId",
        "138875005|20020131|1|1|900000000000074008",
        "73211009|20020131|1|1|900000000000073002",
        "44054006|20020131|1|1|900000000000073002",
        "1|20020131|0|1|900000000000074008",
    ),
    "sct2_Description_Snapshot-en_INT_20260101__txt": table(
        "id|effectiveTime|active|moduleId|conceptId|languageCode|typeId|term|caseSignificanceId",
        "11|x|1|1|138875005|en|900000000000003001|Root (root)|x",
        "12|x|1|1|73211009|en|900000000000013009|Sugar sickness|x",
        "13|x|1|1|73211009|en|900000000000013009|Diabetes mellitus|x",
        "14|x|1|1|44054006|en|900000000000013009|Type 2 diabetes mellitus|x",
    ),
    "sct2_Relationship_Snapshot_INT_20260101__txt": table(
        "id|effectiveTime|active|moduleId|sourceId|destinationId|relationshipGroup|typeId|characteristicTypeId|modifierId",
        "21|x|1|1|73211009|138875005|0|116680003|x|x",
        "22|x|1|1|44054006|73211009|0|116680003|x|x",
        "23|x|1|1|44054006|138875005|1|363698007|x|x",
    ),
    "der2_cRefset_LanguageSnapshot-en_INT_20260101__txt": table(
        "id|effectiveTime|active|moduleId|refsetId|referencedComponentId|acceptabilityId",
        "31|x|1|1|900000000000509007|13|900000000000548007",
    ),
}
LOINC = {
    "Loinc__csv": '"LOINC_NUM","COMPONENT","PROPERTY","TIME_ASPCT","SYSTEM","SCALE_TYP","METHOD_TYP","CLASS","STATUS",'
    '"SHORTNAME","LONG_COMMON_NAME"\n'
    '"1-8","Glucose","MCnc","Pt","Bld","Qn","","CHEM","ACTIVE","Glucose Bld","Glucose, in Blood"\n'
    '"2-6","Old","MCnc","Pt","Bld","Qn","","CHEM","DEPRECATED","","Old thing"\n',
    "AnswerList__csv": "AnswerListId,AnswerListName,AnswerStringId,DisplayText\n"
    "LL1-1,Yes or no,LA1-1,Yes\nLL1-1,Yes or no,LA2-2,No\n",
    "ComponentHierarchyBySystem__csv": "PATH_TO_ROOT,SEQUENCE,IMMEDIATE_PARENT,CODE,CODE_TEXT\n"
    ",1,,LP1,Lab\nLP1,1,LP1,1-8,Glucose\n",
}
RXNORM = {
    "RXNCONSO__RRF": "1|ENG||||||||||RXNORM|IN||Aspirin||N||\n"
    "2|ENG||||||||||RXNORM|SCD||Aspirin 100 MG Oral Tablet||N||\n"
    "2|ENG||||||||||RXNORM|PSN||aspirin 100 MG tablet||N||\n2|ENG||||||||||MTH|SY||ASA||N||\n",
    "RXNREL__RRF": "1||CUI|RN|2||CUI|isa||||||||||\n",
}
NDC = {
    "product__txt": table(
        "PRODUCTID|PRODUCTNDC|PROPRIETARYNAME|NONPROPRIETARYNAME|DOSAGEFORMNAME|LABELERNAME",
        "a|0002-1433|Trulicity|Dulaglutide|INJECTION|Lilly",
    ),
    "package__txt": table("PRODUCTNDC|NDCPACKAGECODE|PACKAGEDESCRIPTION", "0002-1433|0002-1433-61|2 SYRINGE"),
}
CSV = {
    "colours__csv": "code,display,definition,parent,inactive,wave\nred,Red,The first,,false,700\npink,Pink,,red,true,\n"
}


def loaded(name: str, texts: dict[str, str], **options: Any) -> System:
    about, packed = read_release(name, files(**texts), **options)
    return behaviour(str(about["url"])).read(packed)


@pytest.mark.parametrize(
    ("name", "texts", "version", "code", "display", "above"),
    [
        ("icd-10-cm", {"icd10cm-tabular-2027__xml": TABULAR}, "2027", "A00.0XXD", "Classic, later", "A00.0"),
        (
            "icd-10-pcs",
            {"icd10pcs_codes_2026__txt": "0016070 Bypass A to B\n0016071 Bypass A to C\n"},
            "2026",
            "0016071",
            "Bypass A to C",
            "001",
        ),
        ("icd-10", {"icd10__xml": CLAML}, "2019", "A00.0", "Cholera, mild", "A00"),
        (
            "snomed",
            RF2,
            "http://snomed.info/sct/900000000000207008/version/20260101",
            "73211009",
            "Diabetes mellitus",
            "138875005",
        ),
        ("loinc", LOINC, "2.80", "1-8", "Glucose, in Blood", "LP1"),
        ("rxnorm", RXNORM, "2026-01", "2", "Aspirin 100 MG Oral Tablet", "1"),
        ("ndc", NDC, "2026-01-01", "0002-1433-61", "2 SYRINGE", "0002-1433"),
        ("csv", CSV, "3", "pink", "Pink", "red"),
    ],
)
def test_every_format_is_read(
    name: str, texts: dict[str, str], version: str, code: str, display: str, above: str
) -> None:
    """Codes, displays, hierarchy and version; progress counts to the end."""
    counted: list[int] = []
    given = {} if name in ("icd-10-cm", "icd-10-pcs", "icd-10", "snomed") else {"version": version}
    url = {"url": "http://example.org/colours"} if name == "csv" else {}
    found = loaded(name, texts, progress=counted.append, **given, **url)
    assert found.version == version
    assert found.concept(code).display == display
    assert list(found.parents(code)) == [above]
    assert found.subsumes(above, code)
    assert counted[-1] == found.total()


def test_properties_synonyms_and_status_come_along() -> None:
    """What each format says beyond code and display."""
    snomed = loaded("snomed", RF2)
    assert [d.value for d in snomed.concept("73211009").designations] == ["Sugar sickness"]
    assert list(snomed.values("44054006", "363698007")) == ["138875005"]
    assert snomed.inactive("1")
    assert list(snomed.search("sugar") or ()) == ["73211009"]
    loinc = loaded("loinc", LOINC)
    assert list(loinc.values("LA1-1", "LIST")) == ["LL1-1"]
    assert loinc.inactive("2-6")
    cholera = loaded("icd-10-cm", {"icd10cm-tabular-2027__xml": TABULAR})
    assert list(cholera.values("A00", "excludes1")) == ["other (A01.-)"]
    assert list(cholera.search("old") or ()) == ["A00.0"]
    valid = {"icd10cm-tabular-2027__xml": TABULAR, "icd10cm_codes_2027__txt": "A000XXA Classic, first\n"}
    assert loaded("icd-10-cm", valid).locate("A00.0XXD") is None
    assert loaded("icd-10-cm", valid).locate("A00.0XXA")
    colours = loaded("csv", CSV, url="http://example.org/colours")
    assert (colours.concept("red").definition, colours.inactive("pink")) == ("The first", True)
    assert list(colours.values("red", "wave")) == ["700"]


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_wrong_file_is_named_with_what_was_looked_for(name: str) -> None:
    """Not a stack trace."""
    with pytest.raises(FhirError) as refusal:
        read_release(name, files(readme__md="hello"))
    assert "readme.md" in refusal.value.text


@pytest.mark.parametrize(
    ("name", "texts", "told"),
    [
        ("icd-10-cm", {"tabular__xml": "<other/>"}, "<other>"),
        ("icd-10-cm", {"tabular__xml": "no xml"}, "not XML"),
        ("icd-10-pcs", {"icd10pcs__txt": "0016070 Fine\nbroken line\n"}, "Line 2"),
        ("icd-10", {"x__xml": "<ICD/>"}, "<ICD>"),
        ("snomed", {**RF2, "sct2_Concept_Snapshot_INT_20260101__txt": "id\tactive\n1\t1\n"}, "definitionStatusId"),
        ("loinc", {"Loinc__csv": "LOINC_NUM\n1-8\n"}, "COMPONENT"),
        ("rxnorm", {"RXNCONSO__RRF": "1|2|3\n"}, "3 columns"),
        ("ndc", {"product__txt": "PRODUCTNDC\n1\n"}, "PROPRIETARYNAME"),
        ("csv", {"x__csv": "name\nred\n"}, "code"),
        ("csv", {"x__csv": "code,display\n"}, "no codes"),
    ],
)
def test_a_broken_file_is_named_with_the_place(name: str, texts: dict[str, str], told: str) -> None:
    """The line, the column that is missing, the element that is there."""
    with pytest.raises(FhirError) as refusal:
        read_release(name, files(**texts), url="http://example.org/x")
    assert told in refusal.value.text


def test_releases_are_found_in_folders_and_archives(tmp_path: Path) -> None:
    """By their names, wherever they are."""
    import zipfile

    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "colours.csv").write_text("code,display\nred,Red\n")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(tmp_path / "inner" / "colours.csv", "deep/colours.csv")
    for path in (tmp_path / "inner", tmp_path / "all.zip"):
        about, _ = read_release("csv", files_of([path]), url="http://example.org/c")
        assert about["url"] == "http://example.org/c"


@pytest.mark.anyio
async def test_loaded_versions_stand_side_by_side(context: Context, tmp_path: Path) -> None:
    """Each can be asked for; the same version again takes the place of the old one."""
    assert isinstance(context.store, Store)
    kept = TermFiles(context.store.driver, tmp_path)
    url = "http://example.org/colours"
    for version, text in (("1", "code,display\nred,Red\n"), ("2", "code,display\nred,Red\nblue,Blue\n")):
        about, packed = read_release("csv", files(colours__csv=text), version, url)
        await kept.keep(about, packed)
    about, packed = read_release("csv", files(colours__csv="code,display\ngreen,Green\n"), "1", url)
    await kept.keep(about, packed)
    assert codes(content(await ask(context, "GET", f"ValueSet/$expand?url={url}?fhir_vs"))) == ["red", "blue"]
    first = content(await ask(context, "GET", f"CodeSystem/$lookup?system={url}&code=green&version=1"))
    assert value(first, "display") == "Green"
    unknown = await ask(context, "GET", f"CodeSystem/$lookup?system={url}&code=red&version=1")
    assert unknown.status == 404


@pytest.mark.anyio
async def test_a_release_loaded_by_another_process_counts_at_once(
    context: Context, mongo_url: str, database: str, tmp_path: Path
) -> None:
    """The command line loads it, this process answers with it: in a look-up and in a search; then with the next one."""
    url = "http://example.org/colours"
    coding = {"system": url, "code": "scarlet"}
    row = {"resourceType": "Condition", "subject": {"display": "x"}, "code": {"coding": [coding]}}
    assert (await ask(context, "POST", "Condition", row)).status == 201
    assert (await ask(context, "GET", f"CodeSystem/$lookup?system={url}&code=red")).status == 404
    for version, above, total in (("1", "red", 1), ("2", "blue", 0)):
        path = tmp_path / f"{version}.csv"
        path.write_text(f"code,display,parent\nred,Red,\nblue,Blue,\nscarlet,Scarlet,{above}\n")
        words = ["terminology", "load", "csv", str(path), "--url", url, "--release", version, "--mongo", mongo_url]
        command = [sys.executable, "-c", "from fhir_server.cli import main; main()", *words]
        environment = os.environ | {"FHIR_DATABASE": database}
        done = await asyncio.to_thread(subprocess.run, command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert f"{url} version {version} is loaded." in done.stdout
        found = content(await ask(context, "GET", f"CodeSystem/$lookup?system={url}&code=scarlet&property=parent"))
        assert f'"{above}"' in json.dumps(found)
        assert content(await ask(context, "GET", f"Condition?code:below={url}|red"))["total"] == total
