"""How large organs of adults are, in mL, and where that is published.

The ranges are meant for catching mistakes in labels and headers: far wider than the normal ones, so that common
disease stays inside. Outside of one means unusual, not wrong. Children are smaller.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class AdultVolume:
    """A wide range of one organ's volume."""

    low_ml: float  # smaller or larger ones are called unusual
    high_ml: float
    published: str  # what was measured, in words
    source: str  # where


ADULT_VOLUMES: dict[str, AdultVolume] = {
    "artery": AdultVolume(
        15,
        500,
        "the aorta is 26 and 23 mm wide in the chest (men, women), 19 and 17 mm below the kidneys; as a cylinder, "
        "10 cm of the latter are 29 and 22 mL, and 40 cm of the former 210 and 170 mL",
        "Rogers 2013, Am J Cardiol 111:1510-1516; the volumes are worked out from its diameters",
    ),
    "portal_vein": AdultVolume(
        5,
        150,
        "the main portal vein is 15.5 ± 1.9 mm wide; as a cylinder of 8 cm that is 15 mL, to which come the splenic "
        "vein and the branches, as far as they are labelled",
        "Stamm 2016, Abdom Radiol 41:1931-1936; the volume is worked out from its diameter",
    ),
    "liver": AdultVolume(
        600,
        3500,
        "1510 ± 250 mL, enlarged 2320 ± 750 mL",
        "Linguraru 2012, Acad Radiol, doi 10.1016/j.acra.2012.01.015",
    ),
    "spleen": AdultVolume(
        40,
        1500,
        "237 ± 78 mL, enlarged 1005 ± 644 mL; 215 mL (107 to 315)",
        "Linguraru 2013, Acad Radiol 20:675-684; Prassopoulos 1997, Eur Radiol 7:246-248",
    ),
    "stomach": AdultVolume(
        20,
        2000,
        "fasting 86 mL (62 to 130), after a meal of 600 mL 642 mL (536 to 748)",
        "Nucl Med Commun 2007;28(2), SPECT with observer-defined regions of interest",
    ),
    "gallbladder": AdultVolume(
        2,
        200,
        "fasting 18.7 mL (men) and 17.0 mL (women); 24 ± 8 mL (11 to 51)",
        "Palasciano 1992, Am J Gastroenterol 87:493-497; Idris 2016, doi 10.4103/0331-8540.174595",
    ),
    "pancreas": AdultVolume(
        20,
        200,
        "72 ± 26 mL between 20 and 60 years, less later; 78 ± 22 mL (19 to 140)",
        "Saisho 2007, Clin Anat 20:933-942; Abdom Radiol 2019;44:958-966",
    ),
}
