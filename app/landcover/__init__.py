"""Sources and the classified blocks computed from them."""
