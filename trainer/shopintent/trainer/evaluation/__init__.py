"""How good a run is on the part of the log that it never saw."""
