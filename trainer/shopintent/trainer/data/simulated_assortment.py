"""What the simulated shop deals in: departments, shelves (simulated_shelves.csv, and those that
come with the second season, simulated_season_shelves.csv) and brands."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class Shelf:
    """A leaf category: what is on it and what it costs."""

    path: str
    noun: str
    """What one product is called."""
    features: tuple[str, ...]
    variants: tuple[str, ...]
    median_price: float
    words: tuple[str, ...]
    """What shoppers type besides the noun."""
    replenish_days: int
    """People buy it again after about so many days; 0: they do not."""

    @property
    def department(self) -> str:
        """The first segment of the path."""
        return self.path.split(" > ")[0]


def _read_shelves(name: str) -> tuple[Shelf, ...]:
    file = resources.files("shopintent.trainer.data") / name
    return tuple(
        Shelf(
            path=row["path"],
            noun=row["noun"],
            features=tuple(row["features"].split("|")),
            variants=tuple(row["variants"].split("|")),
            median_price=float(row["median_price"]),
            words=tuple(row["words"].split("|")),
            replenish_days=int(row["replenish_days"]),
        )
        for row in csv.DictReader(file.read_text("utf-8").splitlines())
    )


SHELVES = _read_shelves("simulated_shelves.csv")
SEASON_SHELVES = _read_shelves("simulated_season_shelves.csv")
"""Of departments that SHELVES has; the shop deals in them from its second season on."""

BRANDS = {
    "Home": "Norvik|Casa Linde|Hearthly|Brightwell|Oakmere|Simplo",
    "Electronics": "Voltera|Auralis|Pixon|Kestrel|Nimbus Tech|Basiq",
    "Fashion": "Maren|Atelier Roux|Field & Thread|Lumo|Harlow|Plainly",
    "Sports": "Summitra|Trailhead|Velox|Peakline|Motive|Startline",
    "Beauty": "Aloria|Dermavive|Pure Fern|Rosalind|Skinlab|Everyday",
    "Garden & DIY": "Torqueo|Greenhand|Ironwood|Craftix|Handi|Budsmith",
    "Kids": "Little Otter|Bimbo & Co|Woodling|Playtopia|Tiny Steps|Kiddo",
    "Pets": "Pawsome|Wildbowl|Furlong|Petit Ami|Barkley|Value Paws",
    "Food": "Kaffa|Leaf & Bean|Monte Alto|Teahouse 9|Roastery|Daily Cup",
}
"""Brands of each department, the dearest first."""

GIFT_QUERIES = (
    "gift for dad",
    "gift for mom",
    "birthday present",
    "gift for her",
    "gift for him",
    "christmas gift",
    "present for kids",
    "gift under 50",
    "housewarming gift",
    "gift for friend",
)
