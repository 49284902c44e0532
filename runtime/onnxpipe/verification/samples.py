"""The inputs every model is verified on, in the shapes of the tasks that take them."""

from collections.abc import Sequence

from onnxpipe.pipeline import Model

# Short and long, several scripts, symbols, and one beyond every model's limit.
TEXTS = (
    "That is a happy person",
    "Today is a sunny day.",
    "No.",
    "The film was far too long, but the last twenty minutes made up for it.",
    "Please send the invoice to the accounting department before Friday, 3 pm.",
    "El perro duerme debajo de la mesa.",
    "Быстрая коричневая лиса перепрыгивает через ленивую собаку.",
    "今日は天気がとても良いので、公園を散歩しました。",
    "The meeting was moved; nobody told the people who had already travelled 400 km to attend it.",
    "Water boils at 100 °C at sea level, and at about 71 °C on top of Mount Everest.",
    "I can't believe they cancelled it again 😡😡 #disappointed",
    "a b c d e f g",
    "Her new book compares the railways of India, Japan and Switzerland.",
    "Terrible service. The soup was cold, the waiter rude, and the bill wrong.",
    "An excellent little phone: light, fast, and the battery lasts two days.",
    "if x > 0 and y != 1: return sqrt(x) / (y - 1)",
    "Il faut cultiver notre jardin, dit-il en souriant.",
    "The committee will publish its report on housing, transport and energy prices next spring. " * 3,
    "Le vent se lève sur la plaine et la pluie commence à tomber doucement sur les toits de la ville. " * 2,
    "long text that goes on and on without ever coming to a point, and then on again " * 80,
)

# Last and longest a pair: it shares a padded batch with single texts.
PAIRS = (
    {"text": "Where was the meeting?", "text_pair": "The meeting was moved to Basel."},
    {"text": TEXTS[-1], "text_pair": TEXTS[3]},
)

# "{mask}" is replaced by the model's own mask token. In front, where no limit cuts it off.
MASKED = tuple(f"{{mask}} {text}" for text in TEXTS)

_QUESTIONS = (
    "What is it about?",
    "Where was the meeting?",
    "Quand?",
    "How hot does water have to be to boil at sea level?",
)
CONTEXTS = tuple(
    {"question": _QUESTIONS[index % len(_QUESTIONS)], "context": context} for index, context in enumerate(TEXTS)
)

_TABLES: tuple[dict[str, list[str]], ...] = (
    {
        "Actor": ["Brad Pitt", "Leonardo Di Caprio", "George Clooney"],
        "Age": ["56", "45", "59"],
        "Movies": ["87", "53", "69"],
        "Date of birth": ["18 December 1963", "11 November 1974", "6 May 1961"],
    },
    {
        "Train": ["IC 5", "RE 71", "?", "S 3"],
        "Leaves": ["8:05", "8:20", "8:31", "n/a"],
        "Fare": ["€12.50", "7,80", "", "3"],
        "都市": ["東京", "大阪", "京都", "名古屋"],
    },
    # more rows than most models have room for
    {
        "Day": [f"{day}. March 2009" for day in range(1, 120)],
        "Rain": [f"{day % 7}.{day % 10} mm" for day in range(1, 120)],
    },
    {"Only": ["one"]},
)
_TABLE_QUESTIONS = (
    "How many movies did Leonardo Di Caprio make?",
    "What is the average?",
    "Which came before 11 November 1974 or cost more than 7?",
    "Who was born in 1961?",
)
TABLES = tuple({"table": table, "query": question} for table in _TABLES for question in _TABLE_QUESTIONS)


def with_mask(samples: Sequence[object], model: Model) -> list[object]:
    """The samples with the model's own mask token in the place of "{mask}"."""
    mask = model.tokenizer.special("mask_token") if model.bundle.manifest.text else None
    return [sample.replace("{mask}", mask) if isinstance(sample, str) and mask else sample for sample in samples]
