"""Classes and imagery placed on the pixels a client asks for."""
