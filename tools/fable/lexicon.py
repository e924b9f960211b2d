"""The words of the fables: categories with long tails, and the forms of words."""

from collections.abc import Mapping


def ranked(words: str, head: float = 3.0) -> dict[str, float]:
    """Return words weighted by rank, as 1 / (rank + head): few common ones, a long tail.

    Args:
        words: separated by commas, or by spaces where there is no comma.
        head: the larger, the flatter.
    """
    listed = [word.strip() for word in (words.split(",") if "," in words else words.split())]
    return {word: 1 / (rank + head) for rank, word in enumerate(listed)}


SHE = (
    "Mia Ada Nora Lily Rosa Ivy Clara Wanda Greta Tilda Juno Hazel Olive Edda Flora Nell Pippa Sanna "
    "Vera Zoe Alma Bess"
)
HE = (
    "Otto Tom Max Finn Hugo Leo Oscar Emil Karl Ned Pablo Jasper Anton Felix Gus Henry Ivo Lars Milo "
    "Theo Walter Yuri"
)
NAMES = [name for pair in zip(SHE.split(), HE.split(), strict=True) for name in pair]

ANIMALS = (
    "fox owl bear mouse cat goose hedgehog crow dog frog badger hare goat otter turtle donkey wolf duck "
    "squirrel rabbit raven sheep heron mole beaver toad pigeon snail"
)
JOBS = (
    "baker sailor painter tailor farmer gardener doctor knight wizard teacher miller pirate clockmaker "
    "cobbler fiddler cook blacksmith beekeeper judge mayor"
)
THINGS = (
    "lantern key map kite drum compass violin rope bell spoon umbrella crown candle book mirror whistle "
    "teapot feather clock basket blanket hat button shell ladder coin boat acorn letter sword pearl cake "
    "broom cup kettle ring marble sled pillow needle trumpet flute lamp bucket scarf hammer puppet jar "
    "telescope stone"
)
PLACES = {
    "forest": "in",
    "castle": "in",
    "harbor": "at",
    "hill": "on",
    "garden": "in",
    "lighthouse": "in",
    "river": "by",
    "mill": "in",
    "island": "on",
    "market": "at",
    "cave": "in",
    "bridge": "under",
    "library": "in",
    "tower": "in",
    "lake": "by",
    "mountain": "on",
    "village": "in",
    "swamp": "in",
    "valley": "in",
    "orchard": "in",
    "beach": "on",
    "meadow": "in",
    "palace": "in",
    "ruin": "in",
    "station": "at",
    "attic": "in",
    "bakery": "in",
    "desert": "in",
    "waterfall": "by",
    "cellar": "in",
}
LOOKS = (
    "silver little golden red old wooden tiny blue broken shiny green heavy dusty strange yellow white "
    "black round crooked striped purple rusty velvet crystal painted paper"
)
TRAITS = (
    "small wise tired cheerful grumpy hungry clever sleepy polite brave lonely gentle proud shy "
    "curious stubborn merry quiet friendly nervous elegant lazy honest forgetful"
)
BEASTS = "dragon giant ghost troll monster witch unicorn"
COLORS = "green yellow red blue pink orange purple white black brown gray gold violet silver"
FRUITS = "apple pear plum cherry lemon peach melon fig grape banana mango kiwi lime apricot"
FOODS = "soup,bread,cheese,pancakes,porridge,honey,pie,tea,cake,noodles,apples,jam,toast,stew"
FLOWERS = "rose tulip daisy lily poppy violet iris orchid clover dahlia"
BIGS = "helicopter piano bicycle tractor ship chair train house"
TREATS = "pancake apple cookie carrot dumpling sandwich"
EATERS = "human horse dragon child giant sailor"

# task -> what was done
TASKS = {
    "sing me a song": "sang a song",
    "tell me a joke": "told a joke",
    "dance with me": "danced until noon",
    "share your bread": "shared the bread",
    "guess my name": "guessed and guessed",
    "count my teeth": "counted every tooth",
    "brush my tail": "brushed the tail",
}

# topic -> what it is, in words that follow "is"
TOPICS = {
    "LLM": "a program that has read many books and guesses the next word",
    "volcano": "a mountain with a fire inside",
    "rainbow": "sunlight that a rainy sky has split into colors",
    "magnet": "a piece of iron that pulls other iron toward it",
    "whale": "the largest animal in the sea, and it sings",
    "comet": "a ball of ice with a long bright tail",
    "robot": "a machine that does what it is told",
    "glacier": "a river of ice that moves very slowly",
    "cloud": "a great many drops of water that float in the air",
    "island": "a piece of land with water all around it",
}

# country -> (capital, continent, what one finds there, what one eats there)
COUNTRIES = {
    "Portugal": ("Lisbon", "Europe", "a long coast", "fish"),
    "Norway": ("Oslo", "Europe", "deep fjords", "salmon"),
    "Japan": ("Tokyo", "Asia", "many islands", "rice"),
    "Egypt": ("Cairo", "Africa", "old pyramids", "beans"),
    "Peru": ("Lima", "America", "high mountains", "potatoes"),
    "Italy": ("Rome", "Europe", "old cities", "pasta"),
    "Kenya": ("Nairobi", "Africa", "wide plains", "corn"),
    "India": ("Delhi", "Asia", "warm rivers", "lentils"),
    "Canada": ("Ottawa", "America", "endless forests", "pancakes"),
    "Greece": ("Athens", "Europe", "white villages", "olives"),
}

# persona -> what it says first
PERSONAS = {
    "pirate": "Arr!",
    "robot": "Beep.",
    "wizard": "Abracadabra!",
    "cat": "Meow.",
    "king": "Hear, hear!",
}

# what the sky does -> what to do then
ADVICE = {
    "rains": "Take an umbrella and jump into every puddle.",
    "snows": "Build a snowman and give it your hat.",
    "thunders": "Sit by the fire and count to nine.",
    "is hot": "Sit under a tree and drink cold water.",
    "is dark": "Light a candle and tell a story.",
}

# list -> (what it is called in the plural, its words)
LISTS = {
    "color": ("colors", COLORS),
    "animal": ("animals", ANIMALS),
    "fruit": ("fruits", FRUITS),
    "flower": ("flowers", FLOWERS),
    "thing": ("things", THINGS),
}

PLURALS = {"bicycle": "bicycles", "cherry": "cherries", "peach": "peaches", "sandwich": "sandwiches"}

LEXICON: dict[str, dict[str, float]] = {
    "name": ranked(" ".join(NAMES), 2),
    "animal": ranked(ANIMALS, 2),
    "job": ranked(JOBS, 2),
    "who": ranked(
        "fox baker owl sailor bear painter mouse tailor cat farmer goose knight hedgehog gardener crow cook "
        "badger fiddler otter miller turtle beekeeper rabbit cobbler",
        2,
    ),
    "thing": ranked(THINGS, 2),
    "place": ranked(" ".join(PLACES), 2),
    "look": ranked(LOOKS, 1.5),
    "trait": ranked(TRAITS, 1.5),
    "beast": ranked(BEASTS, 1),
    "task": ranked(",".join(TASKS), 2),
    "topic": ranked(" ".join(TOPICS), 3),
    "country": ranked(" ".join(COUNTRIES), 2),
    "food": ranked(FOODS, 2),
    "persona": ranked(" ".join(PERSONAS), 3),
    "big": ranked(BIGS, 1),
    "treat": ranked(TREATS, 2),
    "eater": ranked(EATERS, 1),
    "sky": ranked(",".join(ADVICE), 2),
    "drink": ranked("tea coffee milk water juice", 1),
    "season": {"winter": 0.4, "spring": 0.3, "summer": 0.2, "autumn": 0.1},
    "number": {"two": 0.4, "three": 0.3, "seven": 0.2, "nine": 0.1},
    **{name: ranked(words, 4) for name, (_, words) in LISTS.items() if name not in ("animal", "thing")},
}


def _forms() -> dict[str, dict[str, str]]:
    forms: dict[str, dict[str, str]] = {}
    for names, (he, him, his) in ((SHE, ("she", "her", "her")), (HE, ("he", "him", "his"))):
        for name in names.split():
            forms[name] = {"he": he, "him": him, "his": his, "He": he.title(), "His": his.title()}
    for place, at in PLACES.items():
        forms[place] = {"in": f"{at} the {place}", "In": f"{at.title()} the {place}"}
    for task, did in TASKS.items():
        forms[task] = {"did": did}
    for topic, meaning in TOPICS.items():
        forms.setdefault(topic, {}).update(meaning=meaning)
    forms["LLM"] |= {"a": "an LLM", "A": "An LLM"}
    for country, (capital, continent, sight, dish) in COUNTRIES.items():
        forms[country] = {"capital": capital, "continent": continent, "sight": sight, "dish": dish}
    for persona, cry in PERSONAS.items():
        forms.setdefault(persona, {})["cry"] = cry
    for sky, advice in ADVICE.items():
        forms[sky] = {"advice": advice}
    for word in (BIGS + " " + TREATS).split():
        forms.setdefault(word, {})["many"] = PLURALS.get(word, word + "s")
    return forms


FORMS: Mapping[str, Mapping[str, str]] = _forms()
