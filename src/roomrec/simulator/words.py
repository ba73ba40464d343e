"""Category names, the words their titles are made of, and styles."""

from typing import Final

CATEGORY_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "scarves": ("silk", "cashmere", "wool", "shawl", "pashmina", "fringe", "print", "wrap", "square"),
    "sneakers": ("runner", "sole", "laces", "retro", "court", "trail", "high-top", "mesh", "kicks"),
    "skincare": ("serum", "glow", "cream", "toner", "hydrating", "mask", "cleanser", "vitamin", "balm"),
    "makeup": ("lipstick", "blush", "palette", "mascara", "matte", "liner", "shimmer", "tint", "brush"),
    "jewellery": ("jade", "pearl", "ring", "bracelet", "gold", "pendant", "earrings", "amber", "chain"),
    "snacks": ("nuts", "crispy", "mango", "cookies", "spicy", "jerky", "chocolate", "seaweed", "bites"),
    "tea": ("oolong", "puer", "jasmine", "matcha", "leaf", "pot", "brew", "green", "blossom"),
    "toys": ("blocks", "plush", "puzzle", "robot", "dinosaur", "train", "doll", "slime", "figure"),
    "kitchen": ("wok", "knife", "blender", "pan", "steamer", "ceramic", "bowl", "grinder", "spatula"),
    "gadgets": ("earbuds", "charger", "keyboard", "lamp", "drone", "camera", "speaker", "magnetic", "wireless"),
    "fitness": ("yoga", "mat", "dumbbell", "bands", "leggings", "bottle", "core", "stretch", "roller"),
    "plants": ("succulent", "bonsai", "orchid", "fern", "seedling", "planter", "cactus", "moss", "ivy"),
}
"""Category to the words typical of it; a title of another category hardly ever has them."""

STYLE_WORDS: Final = (
    ("minimal", "ornate"),
    ("soft", "firm"),
    ("bright", "muted"),
    ("handmade", "machine-made"),
    ("light", "heavy"),
    ("classic", "trendy"),
    ("small", "large"),
    ("natural", "synthetic"),
    ("warm", "cool"),
    ("matte", "glossy"),
    ("plain", "patterned"),
    ("sweet", "savoury"),
    ("travel", "home"),
    ("gift", "everyday"),
    ("quiet", "loud"),
    ("imported", "local"),
)
"""For each direction of a taste what lies at its ends; what a thing is like is an attribute of it."""

OCCASION_WORDS: Final = ("tonight", "live", "sale", "new", "bestsellers", "clearance", "evening", "special")
"""Words that say nothing of the category."""

REGIONS: Final = ("north", "east", "south", "west")
"""Where viewers and streamers are."""

DEVICES: Final = ("android", "ios", "web")
"""What viewers watch on."""
