"""Training, and export to the model file. Needs the ``train`` extra."""
