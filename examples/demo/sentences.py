"""English-German phrases and sentences of every kind, each drawn as often as its weight says.

No sentence needs a case or a gender that CLDR does not give: territories, some of which German uses
with an article, stand in lists and after colons; cities, which never have one, in sentences.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import phrases
from phrases import fill, long_date, money, on_day, percentage
from words import (
    Pair,
    cities,
    digits,
    draw_clock,
    draw_day,
    draw_decimal,
    draw_number,
    draw_spoken,
    measure,
    territories,
)

Maker = Callable[[random.Random], Pair]

# One frame a line, English on the left. {a} and {b} are cities, {day} is a date in full with
# "on" and "am", {time} a time as on a clock, {spoken} one as people say it.
JOURNEYS = (
    ("Flight from {a} to {b} {day}, at {time}", "Flug von {a} nach {b} {day}, um {time}"),
    ("The train to {b} leaves at {spoken}.", "Der Zug nach {b} fährt um {spoken} ab."),
    ("The train from {a} arrives at {time}.", "Der Zug aus {a} kommt um {time} an."),
    ("The distance from {a} to {b} is {way}.", "Die Entfernung von {a} nach {b} beträgt {way}."),
    ("From {a} to {b} it is {way}.", "Von {a} nach {b} sind es {way}."),
    ("{people} people live in {a}.", "In {a} leben {people} Menschen."),
    ("The office in {a} is open until {spoken}.", "Das Büro in {a} ist bis {spoken} geöffnet."),
    ("The meeting in {a} takes place {day}.", "Die Sitzung in {a} findet {day} statt."),
    ("We have lived in {a} since {year}.", "Wir wohnen seit {year} in {a}."),
)
TRADE = (
    ("Origin: {x}; weight: {mass}", "Herkunft: {x}; Gewicht: {mass}"),
    ("Destination: {x}; value of goods: {money}", "Ziel: {x}; Warenwert: {money}"),
    ("Country: {x}; date of birth: {date}", "Land: {x}; Geburtsdatum: {date}"),
    ("Invoice no. {n} of {date}: {money}", "Rechnung Nr. {n} vom {date}: {money}"),
    ("Please pay {money} by {date}.", "Bitte zahlen Sie {money} bis zum {date}."),
    ("The price rose by {rate} to {money}.", "Der Preis stieg um {rate} auf {money}."),
    ("The price per kilogram fell to {money}.", "Der Preis pro Kilogramm fiel auf {money}."),
    ("That costs {money} plus {rate} tax.", "Das kostet {money} zuzüglich {rate} Steuern."),
)


def journey(rng: random.Random) -> Pair:
    """A sentence about a city: flights, trains, distances, people, meetings."""
    a, b = rng.sample(cities(), 2)
    year = str(draw_day(rng).year)
    return fill(
        rng.choice(JOURNEYS),
        a=a,
        b=b,
        day=on_day(rng),
        time=draw_clock(rng),
        spoken=draw_spoken(rng),
        way=measure(draw_number(rng, 4), rng.choice(("length-kilometer", "length-mile"))),
        people=digits(draw_number(rng, 7)),
        year=Pair(year, year),
    )


def trade(rng: random.Random) -> Pair:
    """A line of a customs form, of an invoice, or of the news."""
    return fill(
        rng.choice(TRADE),
        x=rng.choice(territories()),
        mass=measure(round(draw_decimal(rng, 3), 1), rng.choice(("mass-kilogram", "mass-gram"))),
        money=money(rng),
        date=long_date(rng),
        n=Pair(*[str(rng.randrange(10000))] * 2),
        rate=percentage(rng),
    )


# How often each kind of phrase is drawn, relative to the others.
WEIGHTS: dict[Maker, int] = {
    phrases.number_words: 6,
    phrases.number_to_words: 6,
    phrases.number_to_digits: 6,
    phrases.counted: 5,
    percentage: 3,
    phrases.share: 3,
    phrases.plain_date: 10,
    phrases.date_in_words: 7,
    phrases.date_range: 5,
    phrases.quarter: 1,
    on_day: 5,
    phrases.appointment: 4,
    phrases.opening_hours: 4,
    phrases.time_span: 6,
    money: 12,
    phrases.exchange_rate: 4,
    phrases.quantity: 12,
    phrases.place_list: 10,
    journey: 20,
    trade: 14,
}


def draw_pair(rng: random.Random) -> Pair:
    """A phrase of a random kind."""
    return rng.choices(list(WEIGHTS), weights=list(WEIGHTS.values()))[0](rng)
