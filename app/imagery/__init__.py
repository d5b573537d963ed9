"""Where the pixels come from: scenes, the catalogs that list them, the reader that opens them."""
