"""What a visitor did, as the token ids the intent model reads; shared by trainer and server."""

from shopintent.behavior.events import EVENT_TYPES, PRODUCT_EVENT_TYPES, Event
from shopintent.behavior.products import Product, price_in_units, product_text
from shopintent.behavior.tokenizer import Behavior, BehaviorTokenizer, TokenizerError
from shopintent.behavior.vocabulary import Vocabulary

__all__ = [
    "EVENT_TYPES",
    "PRODUCT_EVENT_TYPES",
    "Behavior",
    "BehaviorTokenizer",
    "Event",
    "Product",
    "TokenizerError",
    "Vocabulary",
    "price_in_units",
    "product_text",
]
