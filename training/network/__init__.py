"""The U-Net, its loss and schedule, and its state on disk."""
