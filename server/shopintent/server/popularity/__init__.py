"""What all visitors ask for: counted once in a server, and viewed by each release it has open."""
