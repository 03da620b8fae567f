"""Synthetic people: names in several scripts, addresses, telecom. Any likeness to a real person is chance."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from random import Random

from seed.elements import Json, present

Name = tuple[str, str | None]


@dataclass(frozen=True, slots=True)
class Culture:
    """Names of one language; a name is (as written, in Latin letters where the script is another)."""

    language: str
    language_name: str
    female: tuple[Name, ...]
    male: tuple[Name, ...]
    family: tuple[Name, ...]


def _names(text: str) -> tuple[Name, ...]:
    return tuple((native, latin or None) for native, _, latin in (word.partition("/") for word in text.split()))


def _culture(language: str, language_name: str, female: str, male: str, family: str) -> Culture:
    return Culture(language, language_name, _names(female), _names(male), _names(family))


# Weighted by how often a culture stands here: English first, as in the hospital's region.
_ENGLISH = _culture(
    "en",
    "English",
    "Emma Olivia Grace Hannah Abigail Chloe Madison Ruth Dorothy Evelyn Alice Charlotte Naomi Joan Harriet",
    "Liam Noah James William Henry Jack Samuel Walter Arthur Thomas Edward Oliver George Caleb Marcus",
    "Smith Johnson Williams Brown Miller Davis Wilson Anderson Taylor Moore Jackson Thompson White Harris Clark "
    "Lewis Robinson Walker Young Allen King Wright Scott Hill Green Adams Baker Nelson Carter O'Neill Smith-Jones",
)
_SPANISH = _culture(
    "es",
    "Spanish",
    "Sofía María Lucía Valentina Inés Ángela Raquel Begoña",
    "José Andrés Martín Iñigo Joaquín Tomás Óscar Raúl",
    "García Rodríguez Martínez Hernández López González Pérez Núñez Muñoz Ibáñez Peña",
)
CULTURES: tuple[Culture, ...] = (
    _ENGLISH,
    _ENGLISH,
    _ENGLISH,
    _SPANISH,
    _SPANISH,
    _culture(
        "de",
        "German",
        "Jutta Käthe Ursula Anneliese Grete Heike",
        "Jürgen Günther Björn Klaus Wolfgang Matthias",
        "Müller Schröder Weiß Großmann Köhler Krüger Jäger Böhm",
    ),
    _culture(
        "fr",
        "French",
        "Élodie Françoise Zoé Hélène Anaïs Chloé",
        "François Jérôme Loïc Étienne Benoît René",
        "Lefèvre Dubois Gauthier Bélanger Côté D'Arcy Fontaine",
    ),
    _culture(
        "pl",
        "Polish",
        "Małgorzata Zofia Agnieszka Łucja",
        "Paweł Łukasz Michał Stanisław",
        "Wójcik Wiśniewska Dąbrowski Żuk Kowalczyk Śliwa",
    ),
    _culture(
        "vi",
        "Vietnamese",
        "Thị·Hương Ngọc·Ánh Thùy·Linh",
        "Văn·Dũng Quốc·Bảo Đức·Anh",
        "Nguyễn Trần Phạm Đặng Võ",
    ),
    _culture(
        "ja",
        "Japanese",
        "花子/Hanako 美咲/Misaki さくら/Sakura",
        "太郎/Tarō 健一/Ken'ichi 翔太/Shōta",
        "山田/Yamada 佐藤/Satō 鈴木/Suzuki 高橋/Takahashi",
    ),
    _culture(
        "zh",
        "Chinese",
        "秀英/Xiuying 丽娜/Lina 芳/Fang",
        "伟/Wei 建国/Jianguo 小明/Xiaoming",
        "王/Wang 李/Li 张/Zhang 欧阳/Ouyang",
    ),
    _culture(
        "ar",
        "Arabic",
        "فاطمة/Fatima ليلى/Layla نور/Nour",
        "محمد/Muhammad يوسف/Yusuf عمر/Omar",
        "الحداد/al-Haddad منصور/Mansour الخطيب/al-Khatib",
    ),
    _culture(
        "ru",
        "Russian",
        "Анна/Anna Светлана/Svetlana Ольга/Olga",
        "Иван/Ivan Дмитрий/Dmitri Сергей/Sergei",
        "Иваненко/Ivanenko Шевченко/Shevchenko Кузьмич/Kuzmich",
    ),
    _culture(
        "hi",
        "Hindi",
        "प्रिया/Priya अनीता/Anita मीरा/Meera",
        "अर्जुन/Arjun राज/Raj विक्रम/Vikram",
        "शर्मा/Sharma पटेल/Patel गुप्ता/Gupta",
    ),
)

# City and postal code of invented places.
CITIES: tuple[tuple[str, str], ...] = (
    ("Lakeside", "53701"),
    ("Cedar Falls", "53702"),
    ("Saint-Étienne Bay", "53703"),
    ("Port Haven", "53704"),
    ("Mill Creek", "53705"),
    ("La Cañada", "53706"),
    ("New Zürich", "53707"),
    ("Elm Grove", "53708"),
)
STREETS = (
    "Oak Street",
    "Maple Avenue",
    "Lake Drive",
    "Church Road",
    "Rue Général-Leclerc",
    "Main Street",
    "Hill Lane",
    "Calle Nuñez",
)


@dataclass(frozen=True, slots=True)
class Person:
    """Who somebody is, before any resource is written about them."""

    culture: Culture
    gender: str
    birth: date
    given: tuple[Name, ...]
    family: Name

    @property
    def display(self) -> str:
        """The name in Latin letters, as a label carries it."""
        return f"{_latin(self.given[0])} {_latin(self.family)}"


def _latin(name: Name) -> str:
    return (name[1] or name[0]).replace("·", " ")


def _native(name: Name) -> str:
    return name[0].replace("·", " ")


def person(rng: Random, born: tuple[int, int], family: Name | None = None, culture: Culture | None = None) -> Person:
    """A person born in one of the years `born`; of a given family where named."""
    culture = culture or rng.choice(CULTURES)
    gender = rng.choice(("female", "male"))
    pool = culture.female if gender == "female" else culture.male
    given = tuple(rng.sample(pool, 1 if rng.random() < 0.6 else 2))
    birth = date(rng.randint(*born), rng.randint(1, 12), rng.randint(1, 28))
    return Person(culture, gender, birth, given, family or rng.choice(culture.family))


def human_names(who: Person, maiden: str | None = None) -> list[Json]:
    """The person's HumanNames: official, in Latin letters where the official one is not, and a maiden name."""
    names = [_human_name("official", _native(who.family), [_native(g) for g in who.given])]
    if who.family[1] or who.given[0][1]:
        names.append(_human_name("usual", _latin(who.family), [_latin(g) for g in who.given]))
    if maiden:
        names.append(_human_name("maiden", maiden, [_native(g) for g in who.given]))
    return names


def _human_name(use: str, family: str, given: list[str]) -> Json:
    return {"use": use, "text": " ".join([*given, family]), "family": family, "given": given}


def address(rng: Random, use: str = "home") -> Json:
    """An Address in the hospital's region."""
    city, postal_code = rng.choice(CITIES)
    line = f"{rng.randint(1, 990)} {rng.choice(STREETS)}"
    return {
        "use": use,
        "type": "both",
        "text": f"{line}, {city}, WI {postal_code}",
        "line": [line],
        "city": city,
        "state": "WI",
        "postalCode": postal_code,
        "country": "US",
    }


def telecom(rng: Random, email: str | None = None, use: str = "home") -> list[Json]:
    """A telephone number of the range kept for fiction, and an e-mail address where given."""
    phone = f"+1-608-555-{rng.randint(100, 199):04d}"
    mail = present({"system": "email", "value": email, "use": use}) if email else None
    return [row for row in ({"system": "phone", "value": phone, "use": use, "rank": 1}, mail) if row]
