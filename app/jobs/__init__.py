"""Areas too large for one answer: planned in blocks, recorded, resumed, stopped at once."""
