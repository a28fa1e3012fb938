"""Looking at a graph, planning its folds, and the one editor that carries them out."""
