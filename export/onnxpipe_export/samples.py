"""The inputs every export is verified on, in the shapes of the tasks that take them."""

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

# "{mask}" is replaced by the model's own mask token.
MASKED = tuple(f"{text} {{mask}}." for text in TEXTS[:-1])

_QUESTIONS = (
    "What is it about?",
    "Where was the meeting?",
    "Quand?",
    "How hot does water have to be to boil at sea level?",
)
CONTEXTS = tuple(
    {"question": _QUESTIONS[index % len(_QUESTIONS)], "context": context} for index, context in enumerate(TEXTS)
)


def with_mask(samples: Sequence[object], model: Model) -> list[object]:
    """The samples with the model's own mask token in the place of "{mask}"."""
    mask = model.tokenizer.special("mask_token") if model.bundle.manifest.text else None
    return [sample.replace("{mask}", mask) if isinstance(sample, str) and mask else sample for sample in samples]
