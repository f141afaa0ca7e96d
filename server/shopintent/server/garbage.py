"""Keeps Python's cycle collector from walking over what lives as long as the process."""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 10_000
"""New objects until the collector looks at them: those of some hundred calls, of which nearly all
are gone by then. Python's own 700 make it look several times a call."""


def spare_what_stays() -> None:
    """Exempts all there is now from collection; call it when everything is loaded.

    Vocabularies, protos and the libraries' own objects are some hundred thousand, and a full
    collection stops every call for as long as it takes to visit them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 50)
