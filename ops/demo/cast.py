"""The people of the examples. All of them are invented; what they are called here is what Bellhop calls them, too."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Person:
    """A user of all seven domains. `language` is the one that this person reads."""

    id: str
    name: str
    language: str = "en"

    @property
    def first_name(self) -> str:
        """What friends say."""
        return self.name.partition(" ")[0]

    @property
    def actor(self) -> dict[str, str]:
        """How a notification names this person as its `actor`, who did what it tells of."""
        return {"id": self.id, "name": self.name}

    def reads(self, english: str, *, uk: str) -> str:
        """Return the text in this person's language. Bellhop takes texts as they are: the domain translates."""
        return uk if self.language == "uk" else english


OLENA = Person("u_olena", "Olena Polynova", "uk")
TARAS = Person("u_taras", "Taras Vilshan", "uk")
IRYNA = Person("u_iryna", "Iryna Mriiko", "uk")
DANYLO = Person("u_danylo", "Danylo Kalyniak", "uk")
MIA = Person("u_mia", "Mia Sandholt")
NOAH = Person("u_noah", "Noah Brimley")
AISHA = Person("u_aisha", "Aisha Tawari")
KENJI = Person("u_kenji", "Kenji Hoshida")
SOFIA = Person("u_sofia", "Sofia Rondelli")
LUCAS = Person("u_lucas", "Lucas Ardenne")
EMMA = Person("u_emma", "Emma Winterbourn")
LEO = Person("u_leo", "Leo Fastabend")

CAST = (OLENA, TARAS, IRYNA, DANYLO, MIA, NOAH, AISHA, KENJI, SOFIA, LUCAS, EMMA, LEO)
