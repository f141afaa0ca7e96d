"""The trainer: turns a shop's logs into a release that the server can serve."""
