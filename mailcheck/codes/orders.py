"""Forms of the verbs that ask for a code to be entered: imperatives and infinitives. Data only."""

from collections.abc import Iterable
from typing import Final

_FRENCH: Final = "tap entr indiqu compos recopi copi coll not report renseign dict gliss"
_SPANISH: Final = (
    "teclear marcar copiar pegar ingresar indicar digitar anotar dictar pulsar presionar rellenar"
)
_GERMAN: Final = "tipp gib|geb trag kopier füg diktier schreib erfass"
_RUSSIAN: Final = (
    "введи ввести|укажи указать|набери набрать|впиши вписать|вставь вставить|скопируй скопировать|"
    "вбей вбить|напиши написать|назови назвать|продиктуй продиктовать|заполни заполнить|"
    "перепиши переписать|впечатай впечатать"
)


def _spanish(infinitive: str) -> Iterable[str]:
    """`marcar`: marca, marque, marques; the sound of the stem is kept."""
    stem = infinitive.removesuffix("ar")
    soft = f"{stem[:-1]}qu" if stem.endswith("c") else f"{stem}u" if stem.endswith("g") else stem
    return (infinitive, f"{stem}a", f"{soft}e", f"{stem}ando")


def _german(stems: str) -> Iterable[str]:
    """`gib|geb`: gib, gebe, geben Sie, eingeben, einzugeben. The first stem is that of `du`."""
    first, _, other = stems.partition("|")
    last = other or first
    return (
        first,
        f"{last}e",
        f"{last}en sie",
        *(f"{part}{last}en" for part in ("ein", "einzu", "hinein", "nach")),
    )


ENTER_FORMS: Final = tuple(
    dict.fromkeys(
        (
            *(f"{stem}{end}" for stem in _FRENCH.split() for end in ("er", "ez", "e", "ant")),
            *(form for verb in _SPANISH.split() for form in _spanish(verb)),
            *("escribir", "escribe", "escriba", "introducir", "introduce", "introduzca", "poner", "ponga"),
            *(form for stems in _GERMAN.split() for form in _german(stems)),
            *(
                form
                for verb in _RUSSIAN.split("|")
                for first, last in [verb.split()]
                for form in (first, f"{first}те", last)
            ),
            *("entering", "typing", "keying in", "pasting", "copying", "inserting", "putting in"),
        )
    )
)
"""In a mail about signing in: a code if it follows at once, or stands alone on one of the next lines."""
