"""Areas too large for one answer: planned in blocks, journalled, resumed, stopped at once."""
