"""Numbers, dates, times, money, units and places, each said in English and in German.

All of it comes from CLDR (through Babel: names and both languages' formats) and from num2words
(spelled-out numbers); what people say for times of the day is written here.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable
from functools import cache
from typing import Literal, NamedTuple

from babel import Locale
from babel.core import get_global
from babel.dates import (
    format_date,
    format_datetime,
    get_day_names,
    get_timezone_location,
)
from babel.numbers import (
    format_decimal,
    get_currency_name,
    get_territory_currencies,
)
from babel.units import format_unit
from num2words import num2words  # type: ignore[import-untyped]

LANGUAGES = ("en", "de")

# CLDR's codes that name no place: pseudo-locales, unions, and the unknown.
NOT_TERRITORIES = {"EU", "EZ", "QO", "UN", "XA", "XB", "ZZ"}
# Time zones of these regions are named after cities, but for the few below.
CITY_REGIONS = ("Africa", "Asia", "Europe")
NOT_CITIES = {"Bahrain", "Brunei", "Guernsey", "Isle_of_Man", "Jersey", "Kamchatka", "Kuwait"}
NOT_CITIES |= {"Qatar", "Sakhalin", "Vatican"}
# The day whose legal tenders are taken, so that the corpus does not change with the calendar.
TENDER_DAY = datetime.date(2024, 1, 1)
UNITS = tuple(
    """angle-degree area-hectare area-square-kilometer area-square-meter
    digital-gigabyte digital-kilobyte digital-megabyte duration-century duration-day duration-hour
    duration-minute duration-month duration-second duration-week duration-year electric-ampere
    electric-volt energy-calorie energy-joule energy-kilowatt-hour frequency-hertz
    frequency-megahertz length-centimeter length-foot length-inch length-kilometer
    length-light-year length-meter length-mile length-millimeter length-nautical-mile mass-gram
    mass-kilogram mass-milligram mass-ounce mass-pound power-horsepower power-kilowatt power-watt
    pressure-bar pressure-hectopascal speed-kilometer-per-hour speed-knot speed-meter-per-second
    speed-mile-per-hour temperature-celsius temperature-fahrenheit temperature-kelvin
    volume-barrel volume-cubic-meter volume-liter volume-milliliter""".split()
)


class Pair(NamedTuple):
    """One text in both languages."""

    en: str
    de: str


def both(render: Callable[[str], str]) -> Pair:
    """What `render` makes of each language, with CLDR's special spaces made plain."""
    return Pair(*(" ".join(render(language).split()) for language in LANGUAGES))


# --- the words ---------------------------------------------------------------------------------


@cache
def territories() -> tuple[Pair, ...]:
    """Every territory that CLDR names in both languages."""
    english, german = (Locale(language).territories for language in LANGUAGES)
    codes = [c for c in sorted(english) if c.isalpha() and len(c) == 2 and c in german]
    return tuple(Pair(english[c], german[c]) for c in codes if c not in NOT_TERRITORIES)


@cache
def cities() -> tuple[Pair, ...]:
    """The cities that time zones are named after."""
    zones = [zone.split("/") for zone in sorted(get_global("zone_territories"))]
    kept = ["/".join(z) for z in zones if z[0] in CITY_REGIONS and z[-1] not in NOT_CITIES]
    return tuple(
        both(lambda lang, z=z: get_timezone_location(z, locale=lang, return_city=True))  # type: ignore[misc]
        for z in kept
    )


@cache
def currencies() -> tuple[str, ...]:
    """Codes of the legal tenders that have a name, not only a code, in both languages."""
    codes = {
        code
        for territory in get_global("territory_currencies")
        for code in get_territory_currencies(territory, TENDER_DAY, TENDER_DAY)
    }
    return tuple(c for c in sorted(codes) if get_currency_name(c, 2, locale="de") != c)


def spelled(number: int) -> Pair:
    """21 -> twenty-one, einundzwanzig."""
    return both(lambda language: num2words(number, lang=language))


def digits(number: float) -> Pair:
    """1234.5 -> 1,234.5 and 1.234,5."""
    return both(lambda language: format_decimal(number, locale=language))


def ordinal(number: int) -> Pair:
    """21 -> twenty-first, einundzwanzigste."""
    return both(lambda language: num2words(number, lang=language, to="ordinal"))


def year_words(year: int) -> Pair:
    """1985 -> nineteen eighty-five, neunzehnhundertfünfundachtzig."""
    return both(lambda language: num2words(year, lang=language, to="year"))


def date(day: datetime.date, form: str) -> Pair:
    """A day in one of CLDR's formats: short, medium, long or full."""
    return both(lambda language: format_date(day, form, locale=language))


def clock(moment: datetime.time) -> Pair:
    """15:30 -> 3:30 PM, 15:30 Uhr."""
    at = datetime.datetime.combine(TENDER_DAY, moment)
    return Pair(format_datetime(at, "h:mm a", locale="en"), f"{moment:%H:%M} Uhr")


def spoken_clock(hour: int, minute: int) -> Pair:
    """(3, 30) -> half past three, halb vier; the minute is a multiple of five, but not 0."""
    this, following = spelled(hour), spelled(hour % 12 + 1)
    if minute == 30:
        return Pair(f"half past {this.en}", f"halb {following.de}")
    before = minute > 30
    distance = 60 - minute if before else minute
    gap = Pair("a quarter", "Viertel") if distance == 15 else spelled(distance)
    if before:
        return Pair(f"{gap.en} to {following.en}", f"{gap.de} vor {following.de}")
    return Pair(f"{gap.en} past {this.en}", f"{gap.de} nach {this.de}")


def measure(number: float, unit: str, length: Literal["long", "short"] = "long") -> Pair:
    """(3.5, "length-kilometer") -> 3.5 kilometers, 3,5 Kilometer."""
    return both(lambda language: format_unit(number, unit, length, locale=language))


def in_words(number: int, text: Pair) -> Pair:
    """`text` with the digits of `number` spelled out: 3 weeks -> three weeks, drei Wochen."""
    figure, name = digits(number), spelled(number)
    return Pair(text.en.replace(figure.en, name.en), text.de.replace(figure.de, name.de))


def currency_name(code: str) -> Pair:
    """CHF -> Swiss francs, Schweizer Franken."""
    return both(lambda language: get_currency_name(code, 2, locale=language))


# --- drawing them ------------------------------------------------------------------------------


def draw_number(rng: random.Random, most_digits: int) -> int:
    """A whole number from 2 up, every number of digits equally likely.

    No number ends in 01: spelled out before a German noun it would change with the noun's gender.
    """
    while True:
        number = rng.randrange(10 ** rng.randint(1, most_digits))
        if number > 1 and number % 100 != 1:
            return number


def draw_decimal(rng: random.Random, most_digits: int) -> float:
    """A number with one or two decimals or none."""
    return draw_number(rng, most_digits) + rng.choice((0, 0, rng.randint(1, 9) / 10, rng.random()))


def draw_day(rng: random.Random) -> datetime.date:
    """A day between 1950 and 2049."""
    return datetime.date(1950, 1, 1) + datetime.timedelta(days=rng.randrange(36525))


def draw_clock(rng: random.Random) -> Pair:
    """A time of day as a clock shows it."""
    return clock(datetime.time(rng.randrange(24), rng.randrange(0, 60, 5)))


def draw_spoken(rng: random.Random) -> Pair:
    """A time of day as people say it."""
    return spoken_clock(rng.randint(1, 12), rng.randrange(5, 60, 5))


def draw_weekday(rng: random.Random) -> Pair:
    """A day of the week."""
    number = rng.randrange(7)
    return both(lambda language: get_day_names("wide", locale=language)[number])
