"""Making and judging models. Training needs the ``train`` extra; scores and reports do not."""
