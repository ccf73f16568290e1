"""Short phrases that say the same in English and in German, drawn at random from words.py.

The English wording of a phrase decides its German one: "€5.00" and "5 euros" stay apart.
"""

from __future__ import annotations

import datetime
import random
from decimal import Decimal
from typing import Literal

from babel.dates import format_date, format_interval, format_skeleton, format_timedelta
from babel.lists import format_list
from babel.numbers import format_compact_decimal, format_currency, format_percent
from words import (
    UNITS,
    Pair,
    both,
    cities,
    currencies,
    currency_name,
    date,
    digits,
    draw_clock,
    draw_day,
    draw_decimal,
    draw_number,
    draw_spoken,
    draw_weekday,
    in_words,
    measure,
    ordinal,
    spelled,
    territories,
    year_words,
)

# Currencies that CLDR writes with the same symbol in both languages.
SYMBOLS = ("EUR", "USD", "GBP", "JPY", "INR", "CHF", "SEK", "PLN", "CAD", "MXN")
# English noun, German noun, German article in the nominative.
COUNTED = (
    ("chapter", "Kapitel", "das"),
    ("day", "Tag", "der"),
    ("edition", "Ausgabe", "die"),
    ("floor", "Stock", "der"),
    ("month", "Monat", "der"),
    ("page", "Seite", "die"),
    ("place", "Platz", "der"),
    ("row", "Reihe", "die"),
    ("week", "Woche", "die"),
    ("year", "Jahr", "das"),
)
Span = Literal["second", "minute", "hour", "day", "week", "month", "year"]
# Spans of time and their seconds, as Babel counts them.
SPANS: dict[Span, int] = {
    "second": 1,
    "minute": 60,
    "hour": 3600,
    "day": 86400,
    "week": 7 * 86400,
    "month": 30 * 86400,
    "year": 365 * 86400,
}


def fill(frame: tuple[str, str], **parts: Pair) -> Pair:
    """A frame with its named parts filled in, each in its language."""
    return Pair(
        frame[0].format(**{name: part.en for name, part in parts.items()}),
        frame[1].format(**{name: part.de for name, part in parts.items()}),
    )


def number_words(rng: random.Random) -> Pair:
    """twenty-one -> einundzwanzig."""
    return spelled(draw_number(rng, 5))


def number_to_words(rng: random.Random) -> Pair:
    """in words: 21 -> in Worten: einundzwanzig."""
    number = draw_number(rng, 4)
    return Pair(f"in words: {digits(number).en}", f"in Worten: {spelled(number).de}")


def number_to_digits(rng: random.Random) -> Pair:
    """in digits: twenty-one -> in Ziffern: 21."""
    number = draw_number(rng, 4)
    return Pair(f"in digits: {spelled(number).en}", f"in Ziffern: {digits(number).de}")


def counted(rng: random.Random) -> Pair:
    """the twenty-first week -> die einundzwanzigste Woche."""
    noun, nomen, article = rng.choice(COUNTED)
    number = rng.randint(1, 99) if rng.random() < 0.7 else draw_number(rng, 3)
    name = ordinal(number)
    return Pair(f"the {name.en} {noun}", f"{article} {name.de} {nomen}")


def percentage(rng: random.Random) -> Pair:
    """12.5% -> 12,5 %, or 12.5 percent -> 12,5 Prozent."""
    number = round(draw_decimal(rng, 2), 1)
    if rng.random() < 0.5:
        return fill(("{n} percent", "{n} Prozent"), n=digits(number))
    # Decimal, because 2.7 / 100 in binary has 2.7000000000000003 percent.
    rate = Decimal(str(number)) / 100
    return both(lambda lang: format_percent(rate, locale=lang, decimal_quantization=False))


def share(rng: random.Random) -> Pair:
    """12.5% of the people in Vienna -> 12,5 % der Menschen in Wien."""
    frame = ("{rate} of the people in {a}", "{rate} der Menschen in {a}")
    return fill(frame, rate=percentage(rng), a=rng.choice(cities()))


def plain_date(rng: random.Random) -> Pair:
    """3/5/21 -> 05.03.21, and CLDR's medium, long and full formats."""
    return date(draw_day(rng), rng.choice(("short", "medium", "long", "full")))


def date_in_words(rng: random.Random) -> Pair:
    """the fifth of March, nineteen eighty-five -> der fünfte März neunzehnhundertfünfundachtzig."""
    day = draw_day(rng)
    month = both(lambda lang: format_date(day, "MMMM", locale=lang))
    frame = ("the {day} of {month}, {year}", "der {day} {month} {year}")
    return fill(frame, day=ordinal(day.day), month=month, year=year_words(day.year))


def date_range(rng: random.Random) -> Pair:
    """Mar 5 – 9, 2021 -> 5.–9. März 2021."""
    first = draw_day(rng)
    last = first + datetime.timedelta(days=rng.randint(2, 40))
    return both(lambda lang: format_interval(first, last, skeleton="yMMMd", locale=lang))


def quarter(rng: random.Random) -> Pair:
    """3rd quarter 2021 -> 3. Quartal 2021."""
    day = draw_day(rng)
    return both(lambda lang: format_skeleton("yQQQQ", day, locale=lang))


def long_date(rng: random.Random) -> Pair:
    """March 5, 2021 -> 5. März 2021."""
    return date(draw_day(rng), "long")


def on_day(rng: random.Random) -> Pair:
    """on Friday, March 5 -> am Freitag, dem 5. März; with the year half of the time."""
    day = draw_day(rng)
    year = rng.choice(("", " y"))
    return Pair(
        "on " + format_date(day, f"EEEE, MMMM d{year and ',' + year}", locale="en"),
        "am " + format_date(day, f"EEEE, 'dem' d. MMMM{year}", locale="de"),
    )


def appointment(rng: random.Random) -> Pair:
    """on Monday at half past three -> am Montag um halb vier."""
    when = rng.choice((draw_clock, draw_spoken))(rng)
    return fill(("on {day} at {time}", "am {day} um {time}"), day=draw_weekday(rng), time=when)


def opening_hours(rng: random.Random) -> Pair:
    """Monday to Friday from 9:30 AM to 5:00 PM -> Montag bis Freitag von 09:30 Uhr bis ..."""
    frame = ("{a} to {b} from {x} to {y}", "{a} bis {b} von {x} bis {y}")
    a, b = draw_weekday(rng), draw_weekday(rng)
    return fill(frame, a=a, b=b, x=draw_clock(rng), y=draw_clock(rng))


def time_span(rng: random.Random) -> Pair:
    """3 weeks ago -> vor 3 Wochen, in three weeks -> in drei Wochen."""
    number, span = draw_number(rng, 3), rng.choice(list(SPANS))
    seconds = rng.choice((-1, 1)) * number * SPANS[span]

    def render(language: str) -> str:
        return format_timedelta(
            seconds, granularity=span, threshold=1e9, add_direction=True, locale=language
        )

    return in_words(number, both(render)) if rng.random() < 0.5 else both(render)


def money_named(rng: random.Random) -> Pair:
    """1,234.50 Swiss francs -> 1.234,50 Schweizer Franken, or with the number in words."""
    number, name = draw_number(rng, 4), currency_name(rng.choice(currencies()))
    amount = rng.choice((digits(number), spelled(number), digits(number + 0.5)))
    return fill(("{n} {name}", "{n} {name}"), n=amount, name=name)


def money_symbol(rng: random.Random) -> Pair:
    """€1,234.50 -> 1.234,50 €."""
    number, code = round(draw_decimal(rng, 4), 2), rng.choice(SYMBOLS)
    return both(lambda lang: format_currency(number, code, locale=lang))


def money_rounded(rng: random.Random) -> Pair:
    """1.5 million euros -> 1,5 Millionen Euro."""
    number = rng.randint(11, 9999) / 10 * rng.choice((10**6, 10**9))
    amount = both(
        lambda lang: format_compact_decimal(
            number, format_type="long", fraction_digits=1, locale=lang
        )
    )
    name = currency_name(rng.choice(currencies()))
    return fill(("{n} {name}", "{n} {name}"), n=amount, name=name)


def money(rng: random.Random) -> Pair:
    """An amount of money in any of the three ways."""
    return rng.choice((money_named, money_symbol, money_rounded))(rng)


def exchange_rate(rng: random.Random) -> Pair:
    """100 Swiss francs = 93.25 euros -> 100 Schweizer Franken = 93,25 Euro."""
    a, b = (currency_name(code) for code in rng.sample(currencies(), 2))
    rate = digits(round(draw_decimal(rng, 4), 2))
    return fill(("100 {a} = {n} {b}", "100 {a} = {n} {b}"), a=a, b=b, n=rate)


def quantity(rng: random.Random) -> Pair:
    """3.5 kilometers -> 3,5 Kilometer; 3.5 km -> 3,5 km; three kilometers -> drei Kilometer."""
    unit, form = rng.choice(UNITS), rng.randrange(3)
    if form == 0:
        number = draw_number(rng, 3)
        return in_words(number, measure(number, unit))
    return measure(round(draw_decimal(rng, 4), 2), unit, "long" if form == 1 else "short")


def place_list(rng: random.Random) -> Pair:
    """Austria, France, and Japan -> Österreich, Frankreich und Japan."""
    names = rng.sample(territories(), rng.randint(1, 3))
    styles: tuple[Literal["standard"], Literal["or"]] = ("standard", "or")
    style = rng.choice(styles)
    return both(
        lambda lang: format_list([getattr(name, lang) for name in names], style, locale=lang)
    )
