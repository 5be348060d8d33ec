"""How good tracks are, where the truth is known: files of both, pairs, scores, plots, a fit."""
