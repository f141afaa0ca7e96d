"""The tokens of the different words of many events, from which events are put together in columns.

A log of millions of events has far fewer different products, so each word is looked up once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shopintent.behavior.codebook import LEVELS
from shopintent.behavior.vocabulary import PADDING


@dataclass(frozen=True, eq=False)
class EventColumns:
    """N events, their words given as positions in lists of different words."""

    event_types: NDArray[np.integer]  # [N]
    product_ids: NDArray[np.integer]  # [N]
    categories: NDArray[np.integer]  # [N]
    search_queries: NDArray[np.integer]  # [N]
    quantities: NDArray[np.integer]  # [N], units


@dataclass(frozen=True, eq=False)
class WordTokens:
    """What every word becomes; W is another number of words for each kind."""

    event_types: NDArray[np.int32]  # [W]
    searches: NDArray[np.bool_]  # [W], whether the event type is a search
    category_views: NDArray[np.bool_]  # [W], whether it is the view of a category
    products: NDArray[np.int32]  # [W, 7], id and content
    categories: NDArray[np.int32]  # [W]
    search_queries: NDArray[np.int32]  # [W, 3], codes

    def tokens(self, events: EventColumns) -> NDArray[np.int32]:
        """Returns [N, 9], the events in the order they are given."""
        n_content = self.products.shape[1]
        tokens = np.empty((len(events.event_types), n_content + 2), dtype=np.int32)
        tokens[:, 0] = self.event_types[events.event_types]
        tokens[:, 1:-1] = self.products[events.product_ids]
        tokens[:, -1] = events.quantities
        searches = self.searches[events.event_types]
        views = self.category_views[events.event_types]
        # A search is about its words and no product, whose content only a release may know.
        tokens[(searches | views) & (tokens[:, 1] < PADDING), 2:-1] = 0
        tokens[searches, 2 : 2 + LEVELS] = self.search_queries[events.search_queries[searches]]
        tokens[views, 2 + LEVELS] = self.categories[events.categories[views]]
        return tokens
