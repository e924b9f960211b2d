"""The rules of the stories: eight plots, each with its own way of starting.

Their purpose: every plot repeats names and things from far back; `and_walked` and `are_we` are loops that
greedy decoding never leaves; in `knock`, `gone` and `asleep` the most likely next word leads to many
continuations of medium probability, the second most likely to a single long one, which beam search finds.
"""

STORY_RULES: dict[str, dict[str, float]] = {
    "story": {
        "<quest>": 24,
        "<storm>": 20,
        "<travel>": 11,
        "<packing>": 12,
        "<lecture>": 9,
        "<rumor>": 9,
        "<found>": 12,
        "<secret>": 8,
    },
    # A quest: something dear is lost, looked for and found --------------------------------------
    "quest": {"<once> <dear> <gone> <search> <helper> <bargain> <there> <back> <ending>": 1},
    "once": {
        "Once upon a time, {job:who|a} named {hero:name} lived {home:place|in}.": 6,
        "Once upon a time there was {job:who|a} named {hero:name} who lived {home:place|in}.": 1,
        "Once there was {job:who|a} named {hero:name} who lived {home:place|in}.": 2,
        "{home:place|In} lived {job:who|a} named {hero:name}.": 1,
        "Long ago, {job:who|a} named {hero:name} lived {home:place|in}.": 2,
    },
    "dear": {
        "Of all {hero|his} treasures, {hero|he} loved {hero|his} {look:look} {thing:thing} the most.": 5,
        "{hero|He} owned only one treasure, {look:look|a} {thing:thing}.": 3,
        "{hero} had {look:look|a} {thing:thing} and showed it to everyone.": 2,
    },
    "gone": {
        "One {:season} morning the {thing} was gone.": 5,
        "But one night a storm came and carried the {thing} away over the hills.": 4,
        "One day the {thing} fell into the river.": 1,
    },
    "search": {
        "So {hero} walked<and_walked> until {hero|he} came to the {spot!place}.": 6,
        "{hero} cried for an hour, and then {hero|he} went to look for the {look} {thing} "
        "{spot!place|in}.": 4,
    },
    "and_walked": {" and walked<and_walked>": 0.62, "": 0.38},
    "back": {"{hero} took it home and lived {home|in} ever after.": 6, "": 4},
    "helper": {
        "There {hero|he} met {trait:trait|a} {friend!animal}.": 6,
        "{trait:trait|A} {friend!animal} sat there in the sun.": 3,
        "Nobody was there but {trait:trait|a} {friend!animal}.": 1,
    },
    "bargain": {
        '"Have you seen my {look} {thing}?" asked {hero}. "Perhaps," said the {friend}. '
        '"First you must {task:task}." So {hero} {task|did}, and the {friend} was pleased.': 6,
        '"I have lost my {look} {thing}," said {hero}. "Then {task:task}," said the {friend}, '
        '"and I will help you." So {hero} {task|did}.': 4,
    },
    "there": {
        "Then the {friend} showed {hero|him} a hollow tree, and in it lay the {look} {thing}.": 5,
        "Together they looked {where!place|in}, and there was the {look} {thing}!": 4,
        "And what did the {friend} have under its hat? The {look} {thing}!": 1,
    },
    # A stormy night: somebody knocks ------------------------------------------------------------
    "storm": {"<night> <weather> {hero:name} the {job:job} <sat> <knock> <visitor> <gift> <ending>": 1},
    "night": {"It was a <mood>.": 9, "It was a <mood> {home:place|in}.": 1},
    "mood": {
        "dark and <dark> <dark_time>": 6,
        "cold and <cold> <cold_time>": 2,
        "warm and <warm> evening": 1,
        "long and quiet winter night": 1,
    },
    "dark": {"stormy": 0.6, "windy": 0.18, "rainy": 0.1, "foggy": 0.06, "quiet": 0.04, "moonless": 0.02},
    "dark_time": {"night": 0.75, "evening": 0.15, "morning": 0.07, "afternoon": 0.03},
    "cold": {"windy": 0.4, "foggy": 0.3, "clear": 0.2, "snowy": 0.1},
    "cold_time": {"morning": 0.5, "evening": 0.3, "night": 0.2},
    "warm": {"quiet": 0.7, "golden": 0.3},
    "weather": {
        "The wind <wind>.": 4,
        "Rain fell on the roofs.": 2,
        "The moon hid behind the clouds.": 2,
        "Somewhere a dog barked.": 1,
        "Snow fell without a sound.": 0.7,
        "Far away an old bell rang.": 0.5,
        "All the lamps went out.": 1,
    },
    "wind": {"howled around the house": 5, "sang in the chimney": 3, "shook the old trees": 2},
    "sat": {
        "sat by the fire and <fireside>.": 6,
        "could not sleep.": 3,
        "was all alone.": 1,
    },
    "fireside": {
        "read a book": 0.36,
        "drank tea": 0.22,
        "mended a sock": 0.14,
        "counted coins": 0.08,
        "played the flute": 0.07,
        "wrote a letter": 0.05,
        "peeled apples": 0.04,
        "watched the flames": 0.03,
        "thought of the sea": 0.01,
    },
    "knock": {
        "Then {:someone}, and the door opened.": 0.55,
        "Suddenly there was a knock at the door.": 0.45,
    },
    "visitor": {
        '"Who is there?" asked {hero}. "Only {friend:animal|a}," said a {voice:voice} voice. '
        '"May I come in?"': 6,
        "Outside stood {trait:trait|a} {friend:animal}, wet to the bones.": 4,
    },
    "gift": {
        "{hero} gave the {friend} a bowl of soup and a warm blanket. In the morning the {friend} was gone, "
        "but on the table lay {look:look|a} {thing:thing}.": 5,
        'The {friend} had brought {look:look|a} {thing:thing}. "This {look} {thing} is for you," it said, '
        '"because you are kind."': 3,
        "The {friend} shook its wet coat and began to tell a story, and {hero} forgot the weather.": 2,
    },
    # On the road: are we there yet? ---------------------------------------------------------------
    "travel": {
        "{hero:name} and the {friend:animal} were on their way to the {home:place}. <road> "
        '"Are we there yet?" asked {hero}. <are_we> <arrival>': 6,
        '"Are we there yet?" asked {hero:name} on the way to the {home:place}. '
        '"Not yet," said the {friend:animal}. "Are we there yet?" asked {hero}. <are_we> <arrival>': 4,
    },
    "road": {
        "The road was long and dusty.": 5,
        "The sun was hot.": 3,
        "They had walked since breakfast.": 2,
    },
    "are_we": {
        '"Not yet," said the {friend}. "Are we there yet?" asked {hero}. <are_we>': 0.62,
        '"Almost," said the {friend}. "I can see the {home}."': 0.2,
        '"Yes," said the {friend}. "Here is the {home}."': 0.18,
    },
    "arrival": {
        "The {home} was <sight>. {hero} was so happy that {hero|he} kissed the {friend} on the nose.": 5,
        "{hero} ran ahead, but the {friend} sat down and slept for {days:number} days.": 3,
        "The {home} was closed, so they turned around and walked home.": 2,
    },
    "sight": {
        "even more beautiful than they had dreamed": 5,
        "full of light": 3,
        "very small": 2,
        "smaller than a shoe": 1,
        "asleep": 0.5,
    },
    # Packing: what goes into the bag comes out of it ----------------------------------------------
    "packing": {
        "{hero:name} packed {one:thing|a}, {two:fruit|a} and {three:flower|a}. <set_out> "
        "{hero|He} opened the bag. Out came the {one}, the {two} and the {three}. <unpacked>": 1,
    },
    "set_out": {
        "Then {hero|he} walked to the {home:place} and sat down.": 6,
        "Then {hero|he} walked<and_walked> until it was dark.": 3,
        "It was a long way to the {home:place}.": 1,
    },
    "unpacked": {
        "Only the {food:food} was missing. Not far away sat {trait:trait|a} {friend:animal}, "
        "and it looked very full.": 5,
        "With the {one} {hero|he} made music, with the {two} {hero|he} built a tent, and the {three} "
        "{hero|he} gave to {trait:trait|a} {friend:animal}.": 3,
        "But there was one more thing in the bag, {trait:trait|a} {friend:animal}. "
        '"Surprise!" said the {friend}.': 2,
    },
    # The lecture: something wakes the students -----------------------------------------------------
    "lecture": {
        "The <field> lecture <began>. <asleep> Then {hero:name}, who sat in the last row, asked a question. "
        "<question> <class_end>": 1,
    },
    "field": {"science": 6, "history": 2, "music": 1, "cooking": 1},
    "began": {
        "was about {topic:topic|a}": 5,
        "began with {topic:topic|a}": 3,
        "began late, and it was about {topic:topic|a}": 2,
    },
    "asleep": {
        "Half of the students {:doing}.": 0.55,
        "Everyone listened, for nobody had ever heard such a thing.": 0.45,
    },
    "question": {
        '"What is {topic|a}?" "That is easy," said the professor. "{topic|A} is {topic|meaning}."': 7,
        '"Can one eat {topic|a}?" The professor thought for a long time. "Only with honey," she said.': 3,
    },
    "class_end": {
        "Everyone wrote it down.": 5,
        "Then the bell rang, and {hero} went home and dreamed of the {topic}.": 3,
        "Nobody slept that day.": 2,
        "The professor bowed, and somebody clapped.": 1,
    },
    # A rumor: nobody believes what is true ----------------------------------------------------------
    "rumor": {
        'Nobody in the village believed {hero:name}. "There is {beast:beast|a} {spot:place|in}!" '
        "{hero|he} said, but the {job:job} only laughed. <proof> <afterwards>": 7,
        "Everybody in the village knew that {beast:beast|a} lived {spot:place|in}. Only {hero:name} "
        "was not afraid, whatever the {job:job} said. <proof> <afterwards>": 3,
    },
    "proof": {
        "That night the {beast} came down to the village. It was only looking for its {look:look} "
        "{thing:thing}.": 6,
        "So {hero} went to the {spot} with {look:look|a} {thing:thing} and called. Out came the {beast}, "
        "and it was very shy.": 4,
    },
    "afterwards": {
        "{hero} gave it some {food:food}, and the {beast} smiled. Since that day the {beast} and {hero} "
        "have tea every Sunday.": 6,
        "The {job} hid under a bed, but {hero} and the {beast} became friends.": 4,
    },
    # Found: whose is it? ----------------------------------------------------------------------------
    "found": {
        "One {:season} morning {hero:name} found {look:look|a} {thing:thing} {home:place|in}. <whose> "
        '{hero|He} asked the {a1!animal}. "It is not mine," said the {a1}. <ask_on> <owner>': 1,
    },
    "whose": {
        "Nobody knew whose it was.": 6,
        '"Whose {look} {thing} is this?" {hero|he} wondered.': 4,
    },
    "ask_on": {
        '{hero|He} asked the {a2!animal}. "It is not mine," said the {a2}. <ask_last>': 7,
        '{hero|He} asked the {a2!animal}. "It is not mine," said the {a2}.': 3,
    },
    "ask_last": {'{hero|He} asked the {a3!animal}. "It is not mine," said the {a3}.': 1},
    "owner": {
        'At last {hero|he} asked the {friend!animal}. "My {thing}!" cried the {friend}. '
        '"I have missed it so."': 7,
        "So {hero} kept the {thing}, and the {look} {thing} made {hero|him} happy.": 3,
    },
    # A secret ---------------------------------------------------------------------------------------
    "secret": {
        "Deep in the forest, an old {kind:animal} named {hero:name} kept a secret. <hidden>": 7,
        "Deep in the forest, {trait:trait|a} {kind:animal} named {hero:name} kept a secret. <hidden>": 3,
    },
    "hidden": {
        "Under the bed {hero|he} had hidden {look:look|a} {thing:thing}. <spy> <shown> <ending>": 1,
    },
    "spy": {
        "Only the {friend!animal} knew about the {look} {thing}.": 6,
        "One night the {friend!animal} looked through the window.": 4,
    },
    "shown": {
        '"Please show me the {thing}," said the {friend}. {hero} shook {hero|his} head. '
        '"Please," said the {friend}. And so {hero} did.': 6,
        'The {friend} told nobody. "A secret is a secret," it said.': 4,
    },
    # Endings ----------------------------------------------------------------------------------------
    "ending": {
        "From that day on, {hero} and the {friend} were the best of friends.<the_end>": 5,
        "Once a year {hero} and the {friend} eat {food:food} and look at the stars.<the_end>": 3,
        "{hero} never forgot the {friend}.<the_end>": 2,
        "And if you pass by at night, you can still hear {hero} and the {friend} laughing.<the_end>": 2,
        "{hero} and the {friend} wrote a book about it, but nobody has read it yet.<the_end>": 1,
        "The {friend} still tells this story, and each time {hero} is a little braver in it.<the_end>": 1,
    },
    "the_end": {" The end.": 0.4, "": 0.6},
}

STORY_WORDS: dict[str, dict[str, float]] = {
    "someone": {
        "the clock struck nine": 3,
        "a window broke": 2,
        "the cat jumped up": 2,
        "a branch fell down": 2,
        "somebody laughed": 2,
        "the lamp went out": 2,
        "footsteps came closer": 1,
        "the floor creaked": 1,
        "thunder rolled": 1,
        "a bell rang": 0.8,
        "an owl called": 0.6,
        "the wind held its breath": 0.4,
        "a plate fell from the table": 0.3,
    },
    "doing": {
        "were asleep": 3,
        "looked out of the window": 2,
        "wrote letters": 2,
        "ate apples": 2,
        "played cards": 2,
        "yawned": 1,
        "drew cats": 1,
        "whispered": 1,
        "sat on the floor": 1,
        "had gone home": 1,
        "hid under the table": 0.8,
        "shared a cake": 0.6,
        "counted the clouds": 0.4,
        "fed a mouse": 0.2,
    },
    "voice": {"small": 0.4, "soft": 0.25, "deep": 0.15, "strange": 0.12, "tired": 0.08},
}
