"""The symbols of landmarks that formats here use: what each is, and the other names that mean it.

A name is compared without case, accents, blanks, hyphens and underscores; so is every symbol. Definitions are the
usual ones of cephalometry (Jacobson and Jacobson, Radiographic Cephalometry); a set's own protocol may differ, as
readers' habits do.
"""

from __future__ import annotations

from typing import NamedTuple


class Symbol(NamedTuple):
    """What a landmark is and the other names that mean it."""

    definition: str
    names: tuple[str, ...] = ()


SYMBOLS: dict[str, Symbol] = {
    "S": Symbol("Sella: centre of the sella turcica", ("Sella", "Sella turcica", "Selle turcique", "Silla", "Sela")),
    "N": Symbol("Nasion: front of the suture of frontal and nasal bones", ("Nasion", "Na", "Nasio")),
    "Or": Symbol("Orbitale: lowest point of the orbit's margin", ("Orbitale", "Orbital", "Infraorbitale")),
    "Po": Symbol("Porion: top of the bony ear canal", ("Porion", "Porio")),
    "A": Symbol(
        "point A, subspinale: deepest point of the upper jaw's front, between ANS and teeth",
        ("A point", "Point A", "A Punkt", "Punto A", "Ponto A", "Subspinale", "Ss"),
    ),
    "B": Symbol(
        "point B, supramentale: deepest point of the lower jaw's front, between teeth and chin",
        ("B point", "Point B", "B Punkt", "Punto B", "Ponto B", "Supramentale"),
    ),
    "Pog": Symbol("pogonion: foremost point of the bony chin", ("Pogonion", "Pg", "Pogonio")),
    "Me": Symbol("menton: lowest point of the chin's bone", ("Menton", "Mentoniano")),
    "Gn": Symbol("gnathion: of the chin's outline, halfway between Pog and Me", ("Gnathion", "Gnatio")),
    "Go": Symbol("gonion: of the lower jaw's angle, outermost", ("Gonion", "Gonio")),
    "LIT": Symbol("edge of the foremost lower incisor", ("Lower incisor tip", "Incision inferius", "L1 tip", "Ii")),
    "UIT": Symbol("edge of the foremost upper incisor", ("Upper incisor tip", "Incision superius", "U1 tip", "Is")),
    "Ls": Symbol("labrale superius: foremost point of the upper lip", ("Labrale superius", "Upper lip", "UL")),
    "Li": Symbol("labrale inferius: foremost point of the lower lip", ("Labrale inferius", "Lower lip", "LL")),
    "Sn": Symbol("subnasale: where the nose's base meets the upper lip", ("Subnasale", "Subnasal")),
    "Pog`": Symbol(
        "pogonion of the skin: foremost point of the soft chin",
        ("Soft tissue pogonion", "Pogonion soft tissue", "Soft Pog", "Pg`", "Weichteilpogonion"),
    ),
    "PNS": Symbol(
        "posterior nasal spine: back end of the hard palate",
        (
            "Posterior nasal spine",
            "Spina nasalis posterior",
            "Spp",
            "Epine nasale posterieure",
            "Espina nasal posterior",
        ),
    ),
    "ANS": Symbol(
        "anterior nasal spine: its tip",
        ("Anterior nasal spine", "Spina nasalis anterior", "Espina nasal anterior"),
    ),
    "Ar": Symbol(
        "articulare: where the back of the jaw's ramus crosses the skull's base",
        ("Articulare", "Artikulare", "Articular"),
    ),
    "Co": Symbol("condylion: top of the condyle, at the back", ("Condylion", "Kondylion", "Condylio")),
    "R": Symbol("of the ramus, by the Aariz set", ("Ramus",)),
    "Pn": Symbol("pronasale: tip of the nose", ("Pronasale", "Prn", "Nose tip", "Tip of nose")),
    "N`": Symbol("nasion of the skin", ("Soft tissue nasion", "Nasion soft tissue", "Weichteilnasion")),
    "LPM": Symbol("cusp of the lower second premolar", ("Lower 2nd PM cusp tip", "Lower second premolar cusp tip")),
    "UPM": Symbol("cusp of the upper second premolar", ("Upper 2nd PM cusp tip", "Upper second premolar cusp tip")),
    "LMT": Symbol("cusp of the lower first molar", ("Lower molar cusp tip", "L6 cusp")),
    "UMT": Symbol("cusp of the upper first molar", ("Upper molar cusp tip", "U6 cusp")),
    "UIA": Symbol("root's end of the foremost upper incisor", ("Upper incisor apex", "Upper incisor root", "U1 apex")),
    "LIA": Symbol("root's end of the foremost lower incisor", ("Lower incisor apex", "Lower incisor root", "L1 apex")),
    "Ba": Symbol("basion: front of the foramen magnum", ("Basion",)),
    "Bo": Symbol("Bolton point: of the notch behind the occipital condyle", ("Bolton", "Bolton point")),
    "PT": Symbol("pterygoid point", ("Pterygoid point", "Pterygoid")),
    "Ptm": Symbol("pterygomaxillary fissure", ("Pterygomaxillare", "Pterygomaxillary fissure")),
    "D": Symbol("middle of the chin's bone", ("D point", "Point D")),
    "Cm": Symbol("columella: of the nose's base", ("Columella",)),
    "G": Symbol("glabella: foremost point of the forehead", ("Glabella",)),
    "Gn`": Symbol("gnathion of the skin", ("Soft tissue gnathion",)),
    "Me`": Symbol("menton of the skin", ("Soft tissue menton",)),
    "C": Symbol("of CL-Detection 2023, as the challenge marks it"),
    "UL`": Symbol("of CL-Detection 2023, upper lip, as the challenge marks it"),
    "LL`": Symbol("of CL-Detection 2023, lower lip, as the challenge marks it"),
    "U6": Symbol("of CL-Detection 2023, upper first molar, as the challenge marks it"),
    "L6": Symbol("of CL-Detection 2023, lower first molar, as the challenge marks it"),
}
# Names whose case tells what they mean: LI is a lower incisor to some and a lower lip to others.
UNSURE = frozenset(("LI", "UI", "LS"))
