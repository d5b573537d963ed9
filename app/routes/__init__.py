"""The only rooms that know HTTP: parse, call one thing, wrap its bytes."""
