"""The project's own recurrent kernel on CUDA, and the graph cut around it."""
