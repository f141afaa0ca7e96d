"""What the network must beat, each by methods that a shop's own team would try first."""
