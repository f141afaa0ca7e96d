"""What the simulated shop deals in: departments, shelves and brands, as plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shelf:
    """A leaf category: what is on it and what it costs."""

    path: str
    noun: str
    """What one product is called."""
    features: tuple[str, ...]
    variants: tuple[str, ...]
    median_price: float
    words: tuple[str, ...] = ()
    """What shoppers type besides the noun."""
    replenish_days: int = 0
    """People buy it again after about so many days; 0: they do not."""

    @property
    def department(self) -> str:
        """The first segment of the path."""
        return self.path.split(" > ")[0]


def _shelf(
    path: str,
    noun: str,
    features: str,
    variants: str,
    median_price: float,
    words: str = "",
    replenish_days: int = 0,
) -> Shelf:
    return Shelf(
        path,
        noun,
        tuple(features.split("|")),
        tuple(variants.split("|")),
        median_price,
        tuple(words.split("|")) if words else (),
        replenish_days,
    )


KITCHEN, FURNITURE = "Home > Kitchen", "Home > Furniture"
TEXTILES, LIGHTING = "Home > Textiles", "Home > Lighting"
AUDIO, COMPUTERS, PHONES = (
    "Electronics > Audio",
    "Electronics > Computers",
    "Electronics > Phones",
)
WOMEN, MEN, SHOES = "Fashion > Women", "Fashion > Men", "Fashion > Shoes"
OUTDOOR, FITNESS, CYCLING = "Sports > Outdoor", "Sports > Fitness", "Sports > Cycling"
SKIN, HAIR = "Beauty > Skin Care", "Beauty > Hair Care"
TOOLS, GARDEN = "Garden & DIY > Tools", "Garden & DIY > Garden"
BABY, TOYS, GAMES = "Kids > Baby", "Kids > Toys", "Kids > Games"
PETS, COFFEE = "Pets", "Food > Coffee & Tea"

SHELVES = (
    _shelf(
        f"{KITCHEN} > Kettles",
        "Kettle",
        "Cordless|Gooseneck|Quiet Boil|Temperature Control|Glass|Stainless Steel",
        "1.0 L|1.5 L|1.7 L",
        45,
        "electric kettle|water boiler",
    ),
    _shelf(
        f"{KITCHEN} > Coffee Makers",
        "Coffee Maker",
        "Drip|Espresso|Pour-Over|Capsule|Thermal|Programmable",
        "Black|Steel|Cream",
        120,
        "espresso machine|coffee machine",
    ),
    _shelf(
        f"{KITCHEN} > Knives",
        "Kitchen Knife",
        "Forged|Damascus Steel|Ceramic|Serrated|Santoku|Carbon Steel",
        "13 cm|18 cm|20 cm",
        55,
        "chef knife|sharp knife",
    ),
    _shelf(
        f"{KITCHEN} > Pans",
        "Frying Pan",
        "Cast Iron|Non-Stick|Stainless Steel|Copper|Induction|Ceramic Coated",
        "20 cm|24 cm|28 cm",
        48,
        "skillet|pan set",
    ),
    _shelf(
        f"{KITCHEN} > Storage",
        "Food Container",
        "Airtight|Glass|Stackable|Bamboo Lid|Leakproof",
        "Set of 3|Set of 5|1 L",
        22,
        "lunch box|jars",
    ),
    _shelf(
        f"{FURNITURE} > Chairs",
        "Chair",
        "Ergonomic|Oak|Velvet|Rattan|Upholstered|Folding",
        "Grey|Natural|Green",
        140,
        "desk chair|dining chair",
    ),
    _shelf(
        f"{FURNITURE} > Desks",
        "Desk",
        "Standing|Oak|Compact|Corner|Walnut|Height Adjustable",
        "120 cm|140 cm|160 cm",
        260,
        "standing desk|home office",
    ),
    _shelf(
        f"{FURNITURE} > Shelves",
        "Bookshelf",
        "Industrial|Pine|Wall Mounted|Modular|Walnut",
        "3 Tiers|4 Tiers|5 Tiers",
        95,
        "shelving unit|bookcase",
    ),
    _shelf(
        f"{TEXTILES} > Bedding",
        "Duvet Cover",
        "Linen|Organic Cotton|Percale|Washed|Flannel",
        "135 x 200|200 x 200|240 x 220",
        60,
        "bed sheets|bedding set",
    ),
    _shelf(
        f"{TEXTILES} > Towels",
        "Bath Towel",
        "Waffle|Organic Cotton|Quick Dry|Turkish|Bamboo",
        "White|Sand|Blue",
        24,
        "towels|towel set",
    ),
    _shelf(
        f"{LIGHTING} > Lamps",
        "Table Lamp",
        "Dimmable|Brass|Ceramic|Paper|LED|Wireless",
        "Small|Medium|Large",
        58,
        "bedside lamp|desk lamp",
    ),
    _shelf(
        f"{AUDIO} > Headphones",
        "Headphones",
        "Noise Cancelling|Wireless|Over-Ear|Studio|Bone Conduction",
        "Black|White|Blue",
        130,
        "bluetooth headphones|anc headphones",
    ),
    _shelf(
        f"{AUDIO} > Earbuds",
        "Earbuds",
        "True Wireless|Sport|Noise Cancelling|Open-Ear|Waterproof",
        "Black|White|Mint",
        85,
        "in ear|wireless earphones",
    ),
    _shelf(
        f"{AUDIO} > Speakers",
        "Speaker",
        "Portable|Bookshelf|Smart|Waterproof|Multiroom",
        "Black|Grey|Red",
        110,
        "bluetooth speaker|music box",
    ),
    _shelf(
        f"{COMPUTERS} > Laptops",
        "Laptop",
        "Ultralight|Gaming|Convertible|Business|Fanless",
        "13 inch|14 inch|16 inch",
        950,
        "notebook|laptop for students",
    ),
    _shelf(
        f"{COMPUTERS} > Monitors",
        "Monitor",
        "4K|Curved|IPS|Ultrawide|USB-C",
        "24 inch|27 inch|32 inch",
        310,
        "screen|display",
    ),
    _shelf(
        f"{COMPUTERS} > Keyboards",
        "Keyboard",
        "Mechanical|Wireless|Compact|Backlit|Silent",
        "Brown Switches|Red Switches|Low Profile",
        90,
        "mechanical keyboard|typing",
    ),
    _shelf(
        f"{COMPUTERS} > Mice",
        "Mouse",
        "Wireless|Vertical|Gaming|Silent|Trackball",
        "Black|White",
        42,
        "computer mouse|ergonomic mouse",
    ),
    _shelf(
        f"{PHONES} > Smartphones",
        "Smartphone",
        "5G|Compact|Dual SIM|Rugged|Foldable",
        "128 GB|256 GB|512 GB",
        560,
        "mobile phone|phone unlocked",
    ),
    _shelf(
        f"{PHONES} > Chargers",
        "Charger",
        "Fast|Magnetic|GaN|Foldable|Travel",
        "20 W|45 W|65 W",
        28,
        "usb c charger|power adapter",
    ),
    _shelf(
        f"{PHONES} > Cases",
        "Phone Case",
        "Leather|Clear|Shockproof|Silicone|Wallet",
        "Black|Navy|Rose",
        19,
        "phone cover|case",
    ),
    _shelf(
        f"{WOMEN} > Dresses",
        "Dress",
        "Linen|Wrap|Midi|Knitted|Floral|Satin",
        "XS-S|M|L-XL",
        65,
        "summer dress|evening dress",
    ),
    _shelf(
        f"{WOMEN} > Knitwear",
        "Sweater",
        "Merino|Cashmere|Oversized|Ribbed|Mohair",
        "XS-S|M|L-XL",
        72,
        "pullover|cardigan",
    ),
    _shelf(
        f"{WOMEN} > Bags",
        "Handbag",
        "Leather|Canvas|Quilted|Crossbody|Woven",
        "Small|Medium|Large",
        95,
        "tote|purse",
    ),
    _shelf(
        f"{MEN} > Shirts",
        "Shirt",
        "Oxford|Linen|Slim Fit|Flannel|Non-Iron",
        "S|M|L|XL",
        48,
        "business shirt|casual shirt",
    ),
    _shelf(
        f"{MEN} > Jackets",
        "Jacket",
        "Waxed|Quilted|Waterproof|Denim|Bomber",
        "S|M|L|XL",
        130,
        "winter jacket|rain jacket",
    ),
    _shelf(
        f"{MEN} > Jeans",
        "Jeans",
        "Slim|Straight|Selvedge|Stretch|Relaxed",
        "30|32|34|36",
        75,
        "denim|trousers",
    ),
    _shelf(
        f"{SHOES} > Sneakers",
        "Sneakers",
        "Leather|Canvas|Retro|Platform|Recycled",
        "White|Black|Sand",
        90,
        "trainers|white shoes",
    ),
    _shelf(
        f"{SHOES} > Boots",
        "Boots",
        "Chelsea|Hiking|Suede|Lined|Waterproof",
        "Brown|Black",
        135,
        "winter boots|leather boots",
    ),
    _shelf(
        f"{SHOES} > Running Shoes",
        "Running Shoes",
        "Cushioned|Trail|Lightweight|Stability|Carbon Plate",
        "Neutral|Wide Fit",
        120,
        "jogging shoes|marathon shoes",
    ),
    _shelf(
        f"{OUTDOOR} > Tents",
        "Tent",
        "Ultralight|Family|Pop-Up|Four-Season|Geodesic",
        "1 Person|2 Persons|4 Persons",
        210,
        "camping tent|camping",
    ),
    _shelf(
        f"{OUTDOOR} > Sleeping Bags",
        "Sleeping Bag",
        "Down|Synthetic|Mummy|Summer|Lightweight",
        "Regular|Long",
        125,
        "camping sleep|warm sleeping bag",
    ),
    _shelf(
        f"{OUTDOOR} > Backpacks",
        "Backpack",
        "Hiking|Waterproof|Roll-Top|Ventilated|Daypack",
        "20 L|35 L|50 L",
        98,
        "rucksack|hiking bag",
    ),
    _shelf(
        f"{FITNESS} > Yoga",
        "Yoga Mat",
        "Cork|Non-Slip|Natural Rubber|Travel|Extra Thick",
        "4 mm|6 mm",
        42,
        "exercise mat|pilates",
    ),
    _shelf(
        f"{FITNESS} > Weights",
        "Dumbbell",
        "Adjustable|Hex|Neoprene|Cast Iron|Rubber Coated",
        "5 kg|10 kg|20 kg",
        60,
        "home gym|weights set",
    ),
    _shelf(
        f"{CYCLING} > Helmets",
        "Bike Helmet",
        "MIPS|Urban|Road|Foldable|Commuter",
        "S|M|L",
        85,
        "cycling helmet|helmet",
    ),
    _shelf(
        f"{CYCLING} > Lights",
        "Bike Light",
        "USB Rechargeable|Waterproof|Bright|Dynamo|Compact",
        "Front|Rear|Set",
        32,
        "bicycle light|rear light",
    ),
    _shelf(
        f"{SKIN} > Creams",
        "Face Cream",
        "Hydrating|Hyaluronic|Night|Anti-Aging|Sensitive",
        "30 ml|50 ml",
        29,
        "moisturizer|day cream",
        21,
    ),
    _shelf(
        f"{SKIN} > Sunscreen",
        "Sunscreen",
        "Mineral|SPF 50|Water Resistant|Invisible|Kids",
        "50 ml|100 ml|200 ml",
        18,
        "sun cream|spf",
        24,
    ),
    _shelf(
        f"{SKIN} > Serums",
        "Serum",
        "Vitamin C|Retinol|Niacinamide|Peptide|Glow",
        "15 ml|30 ml",
        34,
        "face serum|vitamin c",
        24,
    ),
    _shelf(
        f"{HAIR} > Shampoo",
        "Shampoo",
        "Sulfate-Free|Solid|Repair|Volume|Anti-Dandruff",
        "250 ml|400 ml",
        12,
        "hair wash|dry hair",
        16,
    ),
    _shelf(
        f"{HAIR} > Dryers",
        "Hair Dryer",
        "Ionic|Foldable|Professional|Quiet|Diffuser",
        "1600 W|2200 W",
        70,
        "blow dryer|travel dryer",
    ),
    _shelf(
        f"{TOOLS} > Drills",
        "Cordless Drill",
        "Brushless|Compact|Hammer|Right Angle|Heavy Duty",
        "12 V|18 V",
        115,
        "power drill|screwdriver",
    ),
    _shelf(
        f"{TOOLS} > Hand Tools",
        "Tool Set",
        "Chrome Vanadium|Household|Precision|Magnetic|Insulated",
        "32 Pieces|64 Pieces|108 Pieces",
        52,
        "toolbox|wrench set",
    ),
    _shelf(
        f"{GARDEN} > Planters",
        "Planter",
        "Terracotta|Self-Watering|Fiberstone|Hanging|Cedar",
        "20 cm|30 cm|45 cm",
        34,
        "plant pot|flower pot",
    ),
    _shelf(
        f"{GARDEN} > Hoses",
        "Garden Hose",
        "Expandable|Reinforced|Kink-Free|Retractable",
        "15 m|25 m|30 m",
        44,
        "water hose|hose reel",
    ),
    _shelf(
        f"{BABY} > Strollers",
        "Stroller",
        "Compact|All-Terrain|Travel|Reversible|Jogging",
        "Grey|Black|Olive",
        330,
        "buggy|pram",
    ),
    _shelf(
        f"{BABY} > Diapers",
        "Diapers",
        "Sensitive|Overnight|Eco|Ultra Dry",
        "Size 2|Size 3|Size 4",
        26,
        "nappies|diapers pack",
        11,
    ),
    _shelf(
        f"{TOYS} > Building",
        "Building Blocks",
        "Wooden|Magnetic|Classic|Marble Run|Space",
        "50 Pieces|120 Pieces|300 Pieces",
        38,
        "construction toy|blocks",
    ),
    _shelf(
        f"{TOYS} > Plush",
        "Plush Toy",
        "Organic Cotton|Giant|Musical|Woodland|Safari",
        "Bear|Rabbit|Fox|Elephant",
        24,
        "stuffed animal|teddy",
    ),
    _shelf(
        f"{GAMES} > Board Games",
        "Board Game",
        "Cooperative|Strategy|Family|Party|Two-Player",
        "Forest Edition|Harbor Edition|Galaxy Edition",
        34,
        "family game|game night",
    ),
    _shelf(
        f"{GAMES} > Puzzles",
        "Puzzle",
        "Panorama|Wooden|Vintage|Gradient|World Map",
        "500 Pieces|1000 Pieces|2000 Pieces",
        19,
        "jigsaw|puzzle adults",
    ),
    _shelf(
        f"{PETS} > Dog Food",
        "Dog Food",
        "Grain-Free|Salmon|Puppy|Senior|Lamb & Rice",
        "2 kg|6 kg|12 kg",
        38,
        "dry food dog|puppy food",
        14,
    ),
    _shelf(
        f"{PETS} > Cat Litter",
        "Cat Litter",
        "Clumping|Plant-Based|Silica|Scent-Free",
        "5 L|10 L|20 L",
        16,
        "litter|cat sand",
        12,
    ),
    _shelf(
        f"{PETS} > Beds",
        "Pet Bed",
        "Orthopedic|Washable|Round|Cooling|Wicker",
        "S|M|L",
        52,
        "dog bed|cat bed",
    ),
    _shelf(
        f"{COFFEE} > Coffee Beans",
        "Coffee Beans",
        "Single Origin|Dark Roast|Decaf|Fair Trade|House Blend",
        "250 g|500 g|1 kg",
        15,
        "espresso beans|arabica",
        12,
    ),
    _shelf(
        f"{COFFEE} > Tea",
        "Tea",
        "Earl Grey|Green|Herbal|Chai|Rooibos",
        "20 Bags|100 g|250 g",
        9,
        "loose tea|green tea",
        18,
    ),
)

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
