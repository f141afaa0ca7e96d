"""Going on from the release that serves: new events are learned, old ones are not forgotten."""
