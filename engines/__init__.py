"""Inference back-ends behind one protocol, and the model file that they all read."""
