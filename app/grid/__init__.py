"""The pixel grid, its blocks, the tiles over it, and a block's classes."""
