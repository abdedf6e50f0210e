"""The mix itself: packets in, replay guard, delays, packets out, and the keys for it."""
